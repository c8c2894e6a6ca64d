"""Structural identity of jaxprs: two programs with the same fingerprint compute the same function.

JAX compares jaxprs by object identity. Layers built from separate but equal closures have equal
jaxprs that are distinct objects, so this module compares them by structure.
"""

import itertools
from collections.abc import Hashable
from typing import Any
from weakref import WeakKeyDictionary

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from flaxinit.versions.jaxpr import closed, is_key

# Parameters that say nothing about the values: how a call is differentiated, and the Python
# function of a reduction, which has a jaxpr too. A new function object does not make a new program.
FUNCTIONS = {
    "custom_jvp_call": {"jvp_jaxpr_fun"},
    "custom_vjp_call": {"fwd_jaxpr_thunk", "bwd", "out_trees"},
    "reduce": {"computation"},
}


class Fingerprints:
    """Maps a jaxpr, or any equation parameter, to a hashable value; remembers jaxprs it has seen.

    Equal fingerprints imply equal programs. Equal programs may have different fingerprints: what
    cannot be compared by value, such as a function, is compared by identity. That may cost a
    compilation, but never changes a value.
    """

    def __init__(self) -> None:
        self._number: dict[Hashable, int] = {}  # structure -> short name, so that hashing is cheap
        self._names = itertools.count()
        self._jaxprs: WeakKeyDictionary[Any, int] = WeakKeyDictionary()  # compared by identity
        self._alive: dict[int, Any] = {}  # kept alive, so no other object gets its id

    def intern(self, structure: Hashable) -> int:
        """Return a short name for `structure`: equal structures get equal names.

        Every call takes a new name and discards it if the structure already has one, so two threads
        never give the same name to different structures.
        """
        return self._number.setdefault(structure, next(self._names))

    def __call__(self, x: Any) -> Hashable:
        match x:
            case Jaxpr() | ClosedJaxpr():
                name = self._jaxprs.get(x)
                if name is None:
                    name = self._jaxprs[x] = self.intern(self._jaxpr(x))
                return "jaxpr", name
            case tuple() | list():
                return (type(x).__name__, *map(self, x))
            case dict():
                return ("dict", *((k, self(v)) for k, v in x.items()))
            case np.ndarray() | np.generic():
                return "array", x.shape, str(x.dtype), x.tobytes()
        try:
            hash(x)
        except TypeError:
            return self._itself(x)
        return type(x), x

    def _jaxpr(self, x: Jaxpr | ClosedJaxpr) -> Hashable:
        jaxpr, constants = closed(x).jaxpr, closed(x).consts
        ids: dict[Any, int] = {}

        def atom(a):
            return self.literal(a) if isinstance(a, Literal) else ids[a]

        def bind(variables):
            for v in variables:
                ids[v] = len(ids)
            return tuple(self.aval(v) for v in variables)

        head = bind(jaxpr.constvars), bind(jaxpr.invars)
        body = tuple(
            (
                eqn.primitive,
                eqn.ctx,
                tuple(map(atom, eqn.invars)),
                self.params(eqn),
                bind(eqn.outvars),
            )
            for eqn in jaxpr.eqns
        )
        return head, body, tuple(map(atom, jaxpr.outvars)), tuple(map(self.constant, constants))

    def params(self, eqn: JaxprEqn) -> Hashable:
        """Return the parameters that decide the values of an equation."""
        functions = FUNCTIONS.get(eqn.primitive.name, ())
        return self({k: v for k, v in eqn.params.items() if k not in functions})

    def literal(self, a: Literal) -> Hashable:
        """Return type and value; NaN equals itself and 0.0 differs from -0.0, as bits do."""
        return "literal", self.aval(a), np.asarray(a.val).tobytes()

    def constant(self, value: Any) -> Hashable:
        """Return the value, or the identity of a key or a spread array: these are not fetched."""
        if isinstance(value, jax.Array) and (len(value.devices()) > 1 or is_key(value)):
            return self._itself(value)
        return self(np.asarray(value))

    def _itself(self, x: Any) -> Hashable:
        self._alive[id(x)] = x
        return "object", id(x)

    @staticmethod
    def aval(a: Any) -> Hashable:
        """Return shape, dtype, weak type and, on meshes with explicit axes, sharding."""
        return a.aval
