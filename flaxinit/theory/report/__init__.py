"""Reports of a derivation: Markdown, LaTeX, tables for the terminal, and plots."""
