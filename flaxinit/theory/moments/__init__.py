"""A function becomes its Gaussian expectation: exact, certified, floating."""
