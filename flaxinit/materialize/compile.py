"""One segment becomes one executable."""

import time
from typing import Any

import jax
from jax.sharding import Sharding

from flaxinit.materialize.atoms import aval, is_key, unwrapped, wrapped
from flaxinit.materialize.placement import auto
from flaxinit.materialize.segment import Segment

# XLA emits elementwise loops for CPUs through a chain of MLIR dialects, its default, or directly:
# the same machine code for a sampler, compiled in two thirds of the time (medians over six
# samplers: 0.05 s and 0.075 s). The bits are those of an eager run, which the tests hold.
CPU_OPTIONS = {"xla_cpu_use_fusion_emitters": False}


def lower(
    segment: Segment, sources: tuple[Sharding | None, ...], targets: tuple[Sharding | None, ...]
) -> Any:
    """Stage `segment` for arguments and results in these places.

    Keys arrive and leave as their words, which a process can pass to devices of any mesh.
    """
    dtypes = [aval(v).dtype for v in segment.inputs]

    def run(*values):
        made = segment(*(wrapped(x, dtype) for x, dtype in zip(values, dtypes, strict=True)))
        return [unwrapped(x) for x in made]

    specs = []
    for v, source in zip(segment.inputs, sources, strict=True):
        spec = jax.ShapeDtypeStruct(aval(v).shape, aval(v).dtype)
        if is_key(v):
            spec = jax.eval_shape(jax.random.key_data, spec)
        specs.append(jax.ShapeDtypeStruct(spec.shape, spec.dtype, sharding=auto(source)))
    return jax.jit(run, out_shardings=list(targets)).lower(*specs)


def compiled(lowered: Any) -> tuple[Any, float]:
    """The executable and the seconds it took."""
    start = time.perf_counter()
    return _compile(lowered), time.perf_counter() - start


def _compile(lowered: Any) -> Any:
    if jax.default_backend() != "cpu":
        return lowered.compile()
    try:
        return lowered.compile(compiler_options=CPU_OPTIONS)
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return lowered.compile()  # an XLA that has dropped the option: slower, with the same bits


def memory(executables: list[Any]) -> int | None:
    """Bytes of results and temporaries on a device; None if the backend does not tell."""
    found = [executable.memory_analysis() for executable in executables]
    if any(m is None for m in found):
        return None
    return sum(m.output_size_in_bytes + m.temp_size_in_bytes for m in found)
