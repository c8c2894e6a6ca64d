"""Compile a segment to an executable."""

import functools
import itertools
import time
from collections.abc import Sequence
from typing import Any

import jax
from jax.extend.core import JaxprEqn
from jax.sharding import Sharding

from flaxinit.materialize.segment import Segment
from flaxinit.materialize.shardings import auto
from flaxinit.versions.compat import jaxprs_in_params
from flaxinit.versions.jaxpr import aval, bind, called, equations, evaluate, is_key
from flaxinit.versions.threefry import ROW, one_pass

# The compiler may contract the terms of these sums with the operations that make them; that depends
# on how it divides the program into loops. So if a program has a sum, its hash stays a loop, as in
# an eager run.
_SUMS = {"reduce_sum", "reduce_prod", "dot_general", "cumsum", "cumprod", "cumlogsumexp"}


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
    inside = equations(*(x for eqn in segment.eqns for x in jaxprs_in_params(eqn.params)))
    sums = any(e.primitive.name in _SUMS for e in itertools.chain(segment.eqns, inside))
    apply = bind if sums else stage

    def run(*words):
        return [unwrapped(x) for x in segment.evaluate(apply, _wrapped(segment, words))]

    return jax.jit(run, out_shardings=list(targets)).lower(*specs)


def stage(eqn: JaxprEqn, values: list[Any]) -> list[Any]:
    """Return the results of one equation; if it hashes, in one pass that is quick to compile.

    On CPU JAX stages the hash of Threefry as a loop, which is compiled as a program of its own and
    passes whole arrays through memory in each iteration. The bits are the same.
    """
    if hashes(eqn):
        return [_hashed(eqn, *values)]
    body = called(eqn) if eqn.primitive.name == "jit" else None
    if body is not None and any(map(hashes, equations(body))):
        return evaluate(body, values, stage)  # as the compiler would inline it
    return bind(eqn, values)


def hashes(eqn: JaxprEqn) -> bool:
    """Return whether an equation hashes with one key of JAX's Threefry, and can in one pass.

    JAX stages a loop on CPU only, and along short rows the pass would round differently.
    """
    if eqn.primitive.name not in ("random_bits", "random_split", "random_fold_in"):
        return False
    key, shape = aval(eqn.invars[0]), eqn.params.get("shape", ())
    if eqn.primitive.name == "random_bits" and len(shape) > 1 and shape[-1] < ROW:
        return False
    return (
        str(key.dtype) == "key<fry>"
        and key.shape == ()
        and getattr(eqn.ctx, "threefry_partitionable", False)
        and jax.default_backend() == "cpu"
    )


def _hashed(eqn: JaxprEqn, key: Any, *data: Any) -> jax.Array:
    """Return the result of an equation that `hashes`, with the rounds written out."""
    key = one_pass(key)
    match eqn.primitive.name:
        case "random_bits":
            return jax.random.bits(key, eqn.params["shape"], f"uint{eqn.params['bit_width']}")
        case "random_split":
            made = jax.random.split(key, eqn.params["shape"])
        case _:
            made = jax.random.fold_in(key, *data)
    return jax.random.wrap_key_data(jax.random.key_data(made), impl="threefry2x32")


def unwrapped(x: Any) -> Any:
    """Return the words of an array of keys; any other array as it is."""
    return jax.random.key_data(x) if is_key(x) else x


def wrapped(words: Any, dtype: Any) -> Any:
    """Undo `unwrapped`, for an array of `dtype`."""
    if not jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        return words
    return jax.random.wrap_key_data(words, impl=_impl(dtype))


@functools.cache
def _impl(dtype: Any) -> str:
    """Return the name of a key dtype's PRNG; JAX gives it only for arrays and tracers."""
    found = []
    jax.eval_shape(lambda k: found.append(jax.random.key_impl(k)), jax.ShapeDtypeStruct((), dtype))
    return found[0]


def _wrapped(segment: Segment, words: Sequence[Any]) -> list[Any]:
    return [wrapped(x, aval(v).dtype) for x, v in zip(words, segment.inputs, strict=True)]


def applied(executable: Any, segment: Segment, words: Sequence[Any]) -> list[Any]:
    """Run a compiled segment.

    Raises:
        FloatingPointError: ``jax.debug_nans`` or ``jax.debug_infs`` is set and finds a NaN or an
            infinity. The error names the operation, as in an eager run.
    """
    try:
        return executable(*words)
    except Exception as error:
        settings: Any = jax.config
        if not (settings.jax_debug_nans or settings.jax_debug_infs):
            raise
        segment.evaluate(_one_by_one, _wrapped(segment, words))
        raise FloatingPointError(f"invalid value encountered: {error}") from error


def _one_by_one(eqn: JaxprEqn, values: list[Any]) -> list[Any]:
    """Return the results of one equation; a call is evaluated equation by equation too."""
    body = called(eqn) if eqn.primitive.name != "shard_map" else None
    return bind(eqn, values) if body is None else evaluate(body, values, _one_by_one)


def compiled(lowered: Any) -> tuple[Any, float]:
    """Compile; return the executable and the seconds that it took."""
    start = time.perf_counter()
    return lowered.compile(), time.perf_counter() - start


def memory(executables: list[Any]) -> int | None:
    """Return the bytes of results and temporaries on a device; None if the backend does not say."""
    found = [executable.memory_analysis() for executable in executables]
    if any(m is None for m in found):
        return None
    return sum(m.output_size_in_bytes + m.temp_size_in_bytes for m in found)
