"""From a function to its Gaussian expectation: exact, certified or in floating point."""
