"""Experiments that train, and timings: `python -m benchmarks list`."""
