"""What was derived, in Markdown, LaTeX, the terminal and pictures."""
