"""The initializers. They take only numbers: activations, Flax and SymPy are unknown here.

Users reach each of them by its name in ``flaxinit/__init__.pyi``.
"""
