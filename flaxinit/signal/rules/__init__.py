"""The rules of operations on signals."""
