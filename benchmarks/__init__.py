"""Training experiments and timings: `python -m benchmarks list`."""
