"""The activation pages, one module each."""
