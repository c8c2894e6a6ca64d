"""The initializers. They take numbers alone, and know no activation, no Flax and no SymPy.

Each is named in ``flaxinit/__init__.pyi``, by which users reach it.
"""
