"""The signal of a model that has parameters, as it is."""
