"""One segment becomes one executable."""

import time
from typing import Any

import jax
from jax.sharding import Sharding

from flaxinit.materialize.atoms import aval, is_key
from flaxinit.materialize.placement import auto
from flaxinit.materialize.segment import Segment

# On CPU, to optimise a sampler fully takes 0.1 to 0.3 s more than to optimise it lightly, and
# makes it up to 10 ns faster for each element: worth it above some 10^7 elements. The bits are
# those of an eager run either way, which the tests hold.
FULLY_OPTIMISED_SIZE = 2**24


def lower(
    segment: Segment, sources: tuple[Sharding | None, ...], targets: tuple[Sharding | None, ...]
) -> Any:
    """Stage `segment` for arguments and results in these places.

    Keys arrive as their words, which a process can pass to devices of any mesh.
    """
    impls = [_impl(aval(v).dtype) if is_key(v) else None for v in segment.inputs]

    def run(*values):
        return segment(
            *(
                x if impl is None else jax.random.wrap_key_data(x, impl=impl)
                for x, impl in zip(values, impls, strict=True)
            )
        )

    specs = []
    for v, source in zip(segment.inputs, sources, strict=True):
        spec = jax.ShapeDtypeStruct(aval(v).shape, aval(v).dtype)
        if is_key(v):
            spec = jax.eval_shape(jax.random.key_data, spec)
        specs.append(jax.ShapeDtypeStruct(spec.shape, spec.dtype, sharding=auto(source)))
    return jax.jit(run, out_shardings=list(targets)).lower(*specs)


def compiled(lowered: Any, elements: int) -> tuple[Any, float]:
    """The executable and the seconds it took, for a program that makes `elements` in all."""
    lightly = jax.default_backend() == "cpu" and elements < FULLY_OPTIMISED_SIZE
    options = {"xla_backend_optimization_level": 1} if lightly else None
    start = time.perf_counter()
    return lowered.compile(compiler_options=options), time.perf_counter() - start


def memory(executables: list[Any]) -> int | None:
    """Bytes of results and temporaries on a device; None if the backend does not tell."""
    found = [executable.memory_analysis() for executable in executables]
    if any(m is None for m in found):
        return None
    return sum(m.output_size_in_bytes + m.temp_size_in_bytes for m in found)


def _impl(dtype: Any) -> str:
    """The name of the PRNG of a key dtype; JAX tells it of arrays and tracers only."""
    found = []
    jax.eval_shape(lambda k: found.append(jax.random.key_impl(k)), jax.ShapeDtypeStruct((), dtype))
    return found[0]
