"""Trace an init function to one jaxpr that holds only what its outputs need.

This step computes nothing. It refuses what cannot be traced faithfully, so an error comes before
any work is done.
"""

import gc
import itertools
import pickle
import random
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.core import Trace as JaxTrace
from jax.extend.core import ClosedJaxpr, Jaxpr, Var, set_current_trace, take_current_trace
from jax.interpreters.partial_eval import dce_jaxpr
from jax.sharding import NamedSharding, Sharding

from flaxinit.initializers.calls import is_shape
from flaxinit.materialize.eager_calls import EagerCalls
from flaxinit.materialize.fingerprint import Fingerprints
from flaxinit.materialize.layouts import has_types, stated, without_types
from flaxinit.materialize.leaks import stored
from flaxinit.materialize.shardings import auto_mesh
from flaxinit.trees import paths
from flaxinit.versions.jaxpr import aval, opened

BUILD_INSIDE = "Pass a key and build it inside: fast_init(lambda key: Model(nnx.Rngs(key)))(key)."


@dataclass(frozen=True)
class Trace:
    """What an init function computes: `jaxpr` maps its inputs to the array leaves of `tree`."""

    jaxpr: Jaxpr  # has no constants: they are inputs
    constants: dict[Var, Any]  # the value of each input
    paths: tuple[str, ...]  # one per output of `jaxpr`
    layouts: list[Sharding | None]  # where the init function itself leaves each output
    tree: Any  # the state as a pytree of jax.ShapeDtypeStruct
    rebuild: Callable[[Sequence[jax.Array]], Any]  # arrays -> what the init function returns


@dataclass(frozen=True)
class _Tree:
    """A pytree without its arrays."""

    structure: Any
    leaves: list[Any]  # None in place of each array

    @staticmethod
    def of(leaves: Iterable[Any], structure: Any) -> "_Tree":
        return _Tree(structure, [None if _is_array(x) else x for x in leaves])

    def filled(self, arrays: Iterable[Any]) -> Any:
        """Return the pytree with these arrays."""
        rest = iter(arrays)
        return jax.tree.unflatten(
            self.structure, [next(rest) if x is None else x for x in self.leaves]
        )


@dataclass(frozen=True)
class _Call:
    """A call of an init function."""

    init_fn: Callable
    arguments: _Tree
    arrays: list[Any]  # those of the arguments, which are traced

    @property
    def name(self) -> str:
        return name_of(self.init_fn)


@dataclass(frozen=True)
class _Returned:
    """What an init function returned in one trace, besides the arrays."""

    paths: tuple[str, ...]  # of the arrays
    state: _Tree
    whole: Callable[[Any], Any]  # state -> what the init function returns
    trace: weakref.ref[JaxTrace]
    stored: str | None  # the variable that holds a traced value, if one was searched for


def trace(init_fn: Callable, args: tuple, kwargs: dict) -> Trace:
    """Trace ``init_fn(*args, **kwargs)`` and drop all that its outputs do not need.

    The trace uses the axes that are set, as an eager call does. A function that was written without
    layouts may not type on explicit axes, because of a product of weights for example. It is then
    traced on Auto axes.
    """
    leaves, structure = jax.tree.flatten((args, kwargs))
    call = _Call(init_fn, _Tree.of(leaves, structure), list(filter(_is_array, leaves)))
    mesh = jax.sharding.get_mesh()
    errors = []
    for axes in (mesh, auto_mesh(mesh)) if mesh.explicit_axes else (mesh,):
        try:
            with jax.set_mesh(axes):
                traced = _trace(call)
            break
        except Exception as error:
            errors.append(error)
    else:
        if "`set_mesh` can only be used" not in str(errors[0]):
            raise errors[0]
        raise ValueError(
            f"{call.name} sets a mesh, which JAX refuses while it is traced. Set it around the "
            "call of what fast_init returns: `with jax.set_mesh(mesh): ...`."
        ) from errors[0]
    traced = replace(traced, layouts=stated(traced.jaxpr, mesh))
    if not has_types(traced.jaxpr):
        return traced
    jaxpr, constants = without_types(traced.jaxpr, traced.constants)
    return replace(traced, jaxpr=jaxpr, constants=constants)


def _trace(call: _Call) -> Trace:
    closed, returned = _checked(call)
    jaxpr, used = _without_dead_code(closed)
    constants = dict(zip(jaxpr.invars, itertools.compress(closed.consts, used), strict=False))
    if any(np.ndim(x) > 0 for x in constants.values()):
        # A table that NumPy made while tracing may be a sinusoidal embedding, or come from a
        # private random generator. If it is random, a second trace differs.
        _check_same(call, closed, _checked(call)[0])
    values = itertools.compress([*closed.consts, *call.arrays], used)
    constants = dict(zip(jaxpr.invars, values, strict=True))
    for v, x in constants.items():
        if isinstance(x, jax.ShapeDtypeStruct):
            raise TypeError(
                f"an output of {call.name} depends on the values of an argument, but only its "
                f"shape was given, {x}. Pass an array instead."
            )
        # Unless jax_enable_x64 is set, the trace has 32 bits for a NumPy array of 64.
        constants[v] = x if isinstance(x, jax.Array) else np.asarray(x, aval(v).dtype)

    def rebuild(arrays):
        return returned.whole(returned.state.filled(arrays))

    structs = [jax.ShapeDtypeStruct(aval(v).shape, aval(v).dtype) for v in jaxpr.outvars]
    nowhere: list[Sharding | None] = [None] * len(structs)
    return Trace(jaxpr, constants, returned.paths, nowhere, returned.state.filled(structs), rebuild)


def _run(call: _Call, searched: JaxTrace | None = None) -> tuple[ClosedJaxpr, _Returned]:
    """Trace a call once; given `searched`, look for stored values of both traces."""
    found: list[_Returned] = []

    def traced(*arrays):  # a new function each time: JAX caches traces by function
        args, kwargs = call.arguments.filled(arrays)
        with take_current_trace() as current, set_current_trace(EagerCalls(current)):
            result = call.init_fn(*args, **kwargs)
        state, whole = _split(result)
        outputs, structure = jax.tree_util.tree_flatten_with_path(state)
        kept = [(paths.name(path), x) for path, x in outputs if _is_array(x)]
        for path, x in kept:
            if isinstance(x, jax.ShapeDtypeStruct):
                raise TypeError(
                    f"{path}: {call.name} returns the shape {x} instead of an array. Return what "
                    "it draws, not the result of jax.eval_shape."
                )
        place = None
        if searched is not None:
            roots = {"the result": result, call.name: call.init_fn}
            place = stored(roots, {current, searched}, {id(x) for _, x in kept})
        tree = _Tree.of((x for _, x in outputs), structure)
        names = tuple(path for path, _ in kept)
        found.append(_Returned(names, tree, whole, weakref.ref(current), place))
        return [x for _, x in kept]

    closed = jax.make_jaxpr(traced)(*map(_type, call.arrays))
    return closed, found[0]


def _checked(call: _Call) -> tuple[ClosedJaxpr, _Returned]:
    """Trace, and refuse an init function whose result is not a function of its arguments."""
    try:
        before = _generators()
        closed, returned = _run(call)
        if _generators() != before:
            # An import on first use, or another thread, may have drawn. If the result depends on
            # what was drawn, a second trace differs.
            _check_same(call, closed, _run(call)[0])
    except (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerIntegerConversionError,
        jax.errors.NonConcreteBooleanIndexError,
    ) as error:
        raise TypeError(
            f"{call.name} needs the value of an array to decide a shape or a Python branch, so it "
            "cannot be traced: " + str(error).split("\n")[0] + " Pass that value as a Python "
            "number (functools.partial), or call it without fast_init."
        ) from error
    except Exception as error:
        if type(error).__name__ != "TraceContextError":  # of Flax, which is not imported here
            for hint in _hints(call):
                error.add_note(hint)
            raise
        raise TypeError(
            f"{call.name} changes an NNX object that was made outside of it, such as its nnx.Rngs: "
            f"a side effect that a traced call cannot have. {BUILD_INSIDE}"
        ) from error
    if closed.effects:
        raise TypeError(
            f"{call.name} has side effects that fast_init would reorder or drop: "
            f"{sorted(map(str, closed.effects))}. Remove the callback, print or mutable reference."
        )
    # A tracer caught in a reference cycle is garbage, not a leak. The cycle is young, unless it has
    # an older object of the user's in it.
    for generation in (0, 2):
        if returned.trace() is not None:
            gc.collect(generation)
    alive = returned.trace()
    # Something holds the trace. It may be one of JAX's caches, which keeps a function that closes
    # over a traced value (``jax.checkpoint`` has one). The search then finds nothing stored.
    if alive is not None and (place := _run(call, searched=alive)[1].stored):
        raise TypeError(
            f"{call.name} stores a traced value outside of the arrays that it returns, in {place}: "
            "a side effect that would leave no array there. Return the value instead."
        )
    return closed, returned


def _hints(call: _Call) -> Iterator[str]:
    """Yield what may be wrong with the arguments of a call that failed."""
    args, kwargs = call.arguments.filled(call.arrays)
    for value in (*args, *kwargs.values()):
        if isinstance(value, tuple) and is_shape(value):
            yield (
                f"fast_init called {call.name} with {value}. If it is the shape of an input, pass "
                f'jax.ShapeDtypeStruct({value}, "float32").'
            )
    if args and type(args[0]) is int:
        yield (
            f"fast_init called {call.name} with {args[0]} first. If it is a seed, pass a key: "
            f"jax.random.key({args[0]})."
        )


def _check_same(call: _Call, first: ClosedJaxpr, second: ClosedJaxpr) -> None:
    """Refuse an init function if two traces of it differ."""
    prints = Fingerprints()

    def identity(closed):
        jaxpr, used = _without_dead_code(closed)
        return prints(jaxpr), used, [*map(prints.constant, itertools.compress(closed.consts, used))]

    if identity(first) != identity(second):
        raise TypeError(
            f"{call.name} computed something else when it was traced a second time: it draws from "
            "a NumPy or Python generator, or depends on state that it changes. Derive every random "
            "number from the JAX key that is passed in."
        )


def _generators() -> bytes:
    """Return the state of Python's and NumPy's global random generators."""
    return pickle.dumps((random.getstate(), np.random.get_state(legacy=False)))


def _is_array(x: Any) -> bool:
    return isinstance(x, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct)


def _type(x: Any) -> Any:
    """Return the type to trace: shape, dtype, and a layout on the explicit axes that are set.

    Other layouts are left out: `out_shardings` decides where results go.
    """
    if not isinstance(x, jax.Array | jax.ShapeDtypeStruct):
        return x
    weak_type = (x if isinstance(x, jax.ShapeDtypeStruct) else x.aval).weak_type
    mesh, sharding = jax.sharding.get_abstract_mesh(), x.sharding
    named = isinstance(sharding, NamedSharding) and sharding.mesh.abstract_mesh == mesh
    typed = sharding if named and mesh.explicit_axes else None
    return jax.ShapeDtypeStruct(x.shape, x.dtype, weak_type=weak_type, sharding=typed)


def _without_dead_code(closed: ClosedJaxpr) -> tuple[Jaxpr, list[bool]]:
    """Return what the outputs need, constants as first inputs, and which inputs it keeps."""
    return dce_jaxpr(opened(closed)[0], True)


def name_of(fn: Callable) -> str:
    """Return the name of a function for errors."""
    return getattr(fn, "__qualname__", None) or type(fn).__name__


# A model made of NNX modules has imported nnx. Looking it up among the loaded modules keeps
# Flax out of this package's imports.


def has_nnx_nodes(tree: Any) -> bool:
    """Return whether a tree holds NNX objects."""
    nnx = sys.modules.get("flax.nnx")
    if nnx is None:
        return False

    def is_node(x):
        return isinstance(x, nnx.Pytree)

    return any(map(is_node, jax.tree.leaves(tree, is_leaf=is_node)))


def _split(out: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Return the pytree of arrays in `out`, and its inverse; NNX modules keep what they share."""
    if not has_nnx_nodes(out):
        return out, lambda state: state
    nnx = sys.modules["flax.nnx"]
    graphdef, state = nnx.split(out)
    return state, lambda state: nnx.merge(graphdef, state)
