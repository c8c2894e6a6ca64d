"""An init function becomes one jaxpr that holds only what its outputs need.

Nothing is computed here. Whatever cannot be traced faithfully is refused here, so that every
error is raised before any work is done.
"""

import gc
import itertools
import pickle
import random
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.extend.core import (
    ClosedJaxpr,
    Jaxpr,
    Var,
    set_current_trace,
    take_current_trace,
)
from jax.interpreters.partial_eval import dce_jaxpr
from jax.sharding import NamedSharding

from flaxinit import paths
from flaxinit.jaxpr import opened
from flaxinit.materialize.atoms import aval
from flaxinit.materialize.fingerprint import Fingerprints
from flaxinit.materialize.leaks import stored
from flaxinit.materialize.units import Units


@dataclass(frozen=True)
class Trace:
    """What ``init_fn`` computes: `jaxpr` maps its inputs to the array leaves of `tree`."""

    jaxpr: Jaxpr  # which has no constants: they are inputs
    constants: dict[Var, Any]  # the value of each input
    paths: tuple[str, ...]  # one per output of `jaxpr`
    tree: Any  # the state as a pytree of jax.ShapeDtypeStruct
    rebuild: Callable[[Sequence[jax.Array]], Any]  # arrays -> what init_fn returns


def trace(init_fn: Callable, args: tuple, kwargs: dict) -> Trace:
    """Trace ``init_fn(*args, **kwargs)`` and drop all that its outputs do not need."""
    leaves, treedef = jax.tree.flatten((args, kwargs))
    dynamic = [i for i, x in enumerate(leaves) if _is_array(x)]
    seen: dict[str, Any] = {}

    def flat(*arrays):
        values = list(leaves)
        for i, x in zip(dynamic, arrays, strict=True):
            values[i] = x
        args, kwargs = jax.tree.unflatten(treedef, values)
        with take_current_trace() as current, set_current_trace(Units(current)):
            result = init_fn(*args, **kwargs)
        state, seen["whole"] = _split(result)
        outputs, seen["tree"] = jax.tree_util.tree_flatten_with_path(state)
        seen["static"] = [None if _is_array(x) else x for _, x in outputs]
        kept = [(paths.name(path), x) for path, x in outputs if _is_array(x)]
        for path, x in kept:
            if isinstance(x, jax.ShapeDtypeStruct):
                raise TypeError(
                    f"{path}: {name_of(init_fn)} returns the shape {x} in place of an "
                    "array. Return what it draws, not the result of jax.eval_shape."
                )
        seen["paths"] = tuple(path for path, _ in kept)
        if searched := seen.get("searched"):
            roots = {"the result": result, name_of(init_fn): init_fn}
            seen["stored"] = stored(roots, {current, searched}, {id(x) for _, x in kept})
        seen["live"] = weakref.ref(current)
        return [x for _, x in kept]

    def run() -> ClosedJaxpr:
        fresh = lambda *arrays: flat(*arrays)  # noqa: E731 JAX remembers traces by function
        return jax.make_jaxpr(fresh)(*(_type(leaves[i]) for i in dynamic))

    closed = _guarded(init_fn, run, seen)
    jaxpr, used = _without_dead_code(closed)
    constants = dict(zip(jaxpr.invars, itertools.compress(closed.consts, used), strict=False))
    if any(np.ndim(x) > 0 for x in constants.values()):
        # A table made by NumPy while tracing, such as a sinusoidal embedding, is the one place
        # where a private random generator could have spoken. A second trace would disagree.
        _check_same(init_fn, closed, _guarded(init_fn, run, seen))
    values = [*closed.consts, *(leaves[i] for i in dynamic)]
    constants = dict(zip(jaxpr.invars, itertools.compress(values, used), strict=True))
    for v, x in constants.items():
        if isinstance(x, jax.ShapeDtypeStruct):
            raise TypeError(
                f"an output of {name_of(init_fn)} depends on the values of an argument of which "
                f"only the shape was given, {x}: pass an array in its place."
            )
        # A NumPy array of 64 bits has become one of 32 if JAX is not to have more.
        constants[v] = x if isinstance(x, jax.Array) else np.asarray(x, aval(v).dtype)

    tree, static, whole = seen["tree"], seen["static"], seen["whole"]

    def rebuild(arrays):
        arrays = iter(arrays)
        state = jax.tree.unflatten(tree, [next(arrays) if x is None else x for x in static])
        return whole(state)

    structs = iter(jax.ShapeDtypeStruct(aval(v).shape, aval(v).dtype) for v in jaxpr.outvars)
    abstract = jax.tree.unflatten(tree, [next(structs) if x is None else x for x in static])
    return Trace(jaxpr, constants, seen["paths"], abstract, rebuild)


_BUILD_INSIDE = "Pass a key and build it inside: fast_init(lambda key: Model(nnx.Rngs(key)))(key)."


def _guarded(init_fn: Callable, run: Callable[[], ClosedJaxpr], seen: dict) -> ClosedJaxpr:
    """Trace, and refuse an init function whose result is not a function of its arguments."""
    name = name_of(init_fn)
    try:
        before = _generators()
        closed = run()
        if _generators() != before:
            # An import, made on first use, or another thread may have drawn: what of it is in the
            # result is something else in a second trace.
            _check_same(init_fn, closed, run())
    except (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerIntegerConversionError,
        jax.errors.NonConcreteBooleanIndexError,
    ) as e:
        raise TypeError(
            f"{name} needs the value of an array to decide a shape or a Python branch, so it "
            "cannot be traced: " + str(e).split("\n")[0] + " Make what it depends on a Python "
            "number (functools.partial), or call it without fast_init."
        ) from e
    except Exception as e:
        if type(e).__name__ != "TraceContextError":  # of Flax, which is not imported here
            raise
        raise TypeError(
            f"{name} changes an NNX object that was made outside of it, such as its nnx.Rngs: a "
            f"side effect that a traced call cannot have. {_BUILD_INSIDE}"
        ) from e
    if closed.effects:
        raise TypeError(
            f"{name} has side effects that fast_init would reorder or drop: "
            f"{sorted(map(str, closed.effects))}. Remove the callback, print or mutable reference."
        )
    if seen["live"]() is not None:
        gc.collect()  # a tracer caught in a reference cycle is garbage, not a leak
    if (alive := seen["live"]()) is not None:
        # Something holds a traced value. It may be one of JAX's caches, with a function that
        # closes over one (as of ``jax.checkpoint``): then a second trace finds nothing stored.
        seen["searched"] = alive
        run()
        if place := seen["stored"]:
            raise TypeError(
                f"{name} stores a traced value outside of the arrays that it returns, in {place}: "
                "a side effect that would be left without an array. Return the value instead."
            )
    return closed


def _check_same(init_fn: Callable, first: ClosedJaxpr, second: ClosedJaxpr) -> None:
    """Refuse an init function of which two traces differ."""
    prints = Fingerprints()

    def identity(closed):
        jaxpr, used = _without_dead_code(closed)
        return prints(jaxpr), used, [*map(prints.constant, itertools.compress(closed.consts, used))]

    if identity(first) != identity(second):
        raise TypeError(
            f"{name_of(init_fn)} computed something else when it was traced a second time: it "
            "draws from a NumPy or Python generator, or depends on state that it changes. "
            "Derive every random number from the JAX key that is passed in."
        )


def check_function(init_fn: Any) -> None:
    """Refuse a model in the place of the function that makes its parameters; it may be callable."""
    hint = ""
    if hasattr(init_fn, "init") and hasattr(init_fn, "apply"):
        hint = " Pass its `init` method."
    elif _has_nnx_nodes(init_fn):
        hint = f" {_BUILD_INSIDE}"
    if hint or not callable(init_fn):
        raise TypeError(f"init_fn must be a function, received a {type(init_fn).__name__}.{hint}")


def check_arguments(args: tuple, kwargs: dict) -> None:
    """Refuse arguments of which a traced call could not make what an eager call makes."""
    inside = any(isinstance(x, Tracer) for x in jax.tree.leaves((args, kwargs)))
    try:
        jax.sharding.get_mesh()
    except ValueError:  # which JAX tells outside of all transformations only
        inside = True
    if inside:
        raise TypeError(
            "fast_init creates arrays, so it cannot run inside jax.jit, vmap or grad. "
            "Inside a transformation call the init function itself."
        )
    if _has_nnx_nodes((args, kwargs)):
        raise TypeError(
            "an NNX object was passed as an argument; a traced call would not advance its state. "
            + _BUILD_INSIDE
        )


def _generators() -> bytes:
    """The state of Python's and NumPy's global random generators."""
    return pickle.dumps((random.getstate(), np.random.get_state(legacy=False)))


def _is_array(x: Any) -> bool:
    return isinstance(x, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct)


def _type(x: Any) -> Any:
    """What is traced: shape and dtype, and the layout if it is on the explicit axes that are set.

    Where results go is decided by `out_shardings`, and the rest of the program has no axes.
    """
    if not isinstance(x, jax.Array | jax.ShapeDtypeStruct):
        return x
    weak_type = (x if isinstance(x, jax.ShapeDtypeStruct) else x.aval).weak_type
    mesh, sharding = jax.sharding.get_abstract_mesh(), x.sharding
    named = isinstance(sharding, NamedSharding) and sharding.mesh.abstract_mesh == mesh
    typed = sharding if named and mesh.explicit_axes else None
    return jax.ShapeDtypeStruct(x.shape, x.dtype, weak_type=weak_type, sharding=typed)


def _without_dead_code(closed: ClosedJaxpr) -> tuple[Jaxpr, list[bool]]:
    """What the outputs need, constants as the first inputs, and which inputs that are."""
    return dce_jaxpr(opened(closed)[0], True)


def name_of(fn: Callable) -> str:
    return getattr(fn, "__qualname__", None) or type(fn).__name__


# A model made of NNX modules has imported nnx. Looking it up among the loaded modules keeps
# Flax out of this package's imports.


def _has_nnx_nodes(tree: Any) -> bool:
    nnx = sys.modules.get("flax.nnx")
    if nnx is None:
        return False
    is_node = lambda x: isinstance(x, nnx.Pytree)  # noqa: E731
    return any(map(is_node, jax.tree.leaves(tree, is_leaf=is_node)))


def _split(out: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The pytree of arrays in `out`, and how to put it back; NNX modules keep shared references."""
    if not _has_nnx_nodes(out):
        return out, lambda state: state
    nnx = sys.modules["flax.nnx"]
    graphdef, state = nnx.split(out)
    return state, lambda state: nnx.merge(graphdef, state)
