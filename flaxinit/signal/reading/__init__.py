"""A model as programs, and the laws of its parameters."""
