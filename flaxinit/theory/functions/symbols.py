"""The symbols of the theory's expressions."""

from sympy import Symbol

z = Symbol("z", real=True)
"""A pre-activation: the argument of an activation, modeled as N(0, q)."""

gate = Symbol("v", real=True)
"""The second pre-activation of a gate, independent of z and of the same law."""

q = Symbol("q", positive=True)
"""The variance of the pre-activation."""

c = Symbol("c", real=True)
"""The correlation of two pre-activations, in [-1, 1]."""
