"""Measure the signal of a model that has its parameters."""
