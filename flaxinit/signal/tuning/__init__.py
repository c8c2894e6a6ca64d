"""Factors on kernels that keep the signal, from theory and from data."""
