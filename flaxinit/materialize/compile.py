"""One segment becomes one executable."""

import functools
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from flaxinit.materialize.atoms import aval, is_key, unwrapped, wrapped
from flaxinit.materialize.axes import auto
from flaxinit.materialize.segment import MOVES, Segment
from flaxinit.materialize.staging import one_by_one

# LLVM optimizes a program for as long as it takes to compile otherwise. It may change the order in
# which numbers are rounded, so less of it is for programs in which that makes no bit another:
# integers, moves, or a single operation that IEEE 754 rounds correctly.
QUICKLY = {"xla_backend_optimization_level": 1}
KEY_OPERATIONS = {"random_fold_in", "random_split", "random_wrap", "random_unwrap"}
CORRECTLY_ROUNDED = {"add", "sub", "mul", "div", "sqrt"}


def lower(
    segment: Segment, sources: tuple[Sharding | None, ...], targets: tuple[Sharding | None, ...]
) -> Any:
    """Stage `segment` for arguments and results in these places.

    Keys arrive and leave as their words, which a process can pass to devices of any mesh.
    """
    specs = []
    for v, source in zip(segment.inputs, sources, strict=True):
        spec = jax.ShapeDtypeStruct(aval(v).shape, aval(v).dtype, weak_type=aval(v).weak_type)
        if is_key(v):
            spec = jax.eval_shape(jax.random.key_data, spec)
        specs.append(spec.update(sharding=auto(source)))
    run = functools.partial(_on_words, segment)
    return jax.jit(run, out_shardings=list(targets)).lower(*specs)


def _on_words(segment: Segment, *words: Any) -> list[Any]:
    return [unwrapped(x) for x in segment(*_wrapped(segment, words))]


def _wrapped(segment: Segment, words: Sequence[Any]) -> list[Any]:
    return [wrapped(x, aval(v).dtype) for x, v in zip(words, segment.inputs, strict=True)]


def applied(executable: Any, segment: Segment, words: Sequence[Any]) -> list[Any]:
    """The results of a compiled segment; what JAX's debugger of numbers finds, it tells as eagerly.

    Raises:
        FloatingPointError: there is a NaN or an infinity that ``jax.debug_nans`` or
            ``jax.debug_infs`` is to find. It names the operation.
    """
    try:
        return executable(*words)
    except Exception as error:
        settings: Any = jax.config
        if not (settings.jax_debug_nans or settings.jax_debug_infs):
            raise
        segment.evaluate(one_by_one, _wrapped(segment, words))
        raise FloatingPointError(f"invalid value encountered: {error}") from error


def compiled(lowered: Any, *, exact: bool) -> tuple[Any, float]:
    """The executable and the seconds it took; for an `exact` program in the quickest way."""
    start = time.perf_counter()
    if exact and jax.default_backend() == "cpu":
        try:
            return lowered.compile(compiler_options=QUICKLY), time.perf_counter() - start
        except jax.errors.JaxRuntimeError as error:
            # An XLA that does not know the option takes longer and makes the same bits.
            if "No such compile option" not in str(error):
                raise
    return lowered.compile(), time.perf_counter() - start


def is_exact(segment: Segment) -> bool:
    """Whether every compiler makes the same bits of `segment`."""
    names = [eqn.primitive.name for eqn in segment.eqns]
    rounded = [n for n in names if n not in MOVES | KEY_OPERATIONS]
    known = all(n in CORRECTLY_ROUNDED for n in rounded)
    real = all(not jnp.issubdtype(aval(v).dtype, np.complexfloating) for v in segment.outputs)
    return known and real and len(rounded) <= 1


def memory(executables: list[Any]) -> int | None:
    """Bytes of results and temporaries on a device; None if the backend does not tell."""
    found = [executable.memory_analysis() for executable in executables]
    if any(m is None for m in found):
        return None
    return sum(m.output_size_in_bytes + m.temp_size_in_bytes for m in found)
