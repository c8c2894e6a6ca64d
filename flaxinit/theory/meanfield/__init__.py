"""Moments become maps of variance and correlation, their fixed points and criticality."""
