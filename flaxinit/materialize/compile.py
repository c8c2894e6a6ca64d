"""One segment becomes one executable."""

import time
from typing import Any

import jax
from jax.sharding import Sharding

from flaxinit.materialize.atoms import aval, is_key, unwrapped, wrapped
from flaxinit.materialize.placement import auto
from flaxinit.materialize.segment import Segment

# What XLA's CPU compiler is asked for. It emits elementwise loops in two ways: through a chain of
# MLIR dialects, its default, or directly, in half the time. It divides a module among threads;
# here whole modules are. Neither changes the bits, which the tests hold.
CPU_OPTIONS = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}

# To optimise a sampler fully takes 0.09 s more than to optimise it lightly and saves 2.4 ns for
# each element (medians over eight samplers, 2^19 elements each): worth it above 0.09 / 2.4e-9
# elements. The bits are the same again.
LIGHT_OPTIONS = CPU_OPTIONS | {"xla_backend_optimization_level": 1}
FULLY_OPTIMISED_SIZE = round(0.09 / 2.4e-9)


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


def compiled(lowered: Any, elements: int) -> tuple[Any, float]:
    """The executable and the seconds it took, for a program that makes `elements` in all."""
    start = time.perf_counter()
    return _compile(lowered, elements), time.perf_counter() - start


def _compile(lowered: Any, elements: int) -> Any:
    if jax.default_backend() != "cpu":
        return lowered.compile()
    options = LIGHT_OPTIONS if elements < FULLY_OPTIMISED_SIZE else CPU_OPTIONS
    try:
        return lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return lowered.compile()  # an XLA that has dropped an option: slower, with the same bits


def memory(executables: list[Any]) -> int | None:
    """Bytes of results and temporaries on a device; None if the backend does not tell."""
    found = [executable.memory_analysis() for executable in executables]
    if any(m is None for m in found):
        return None
    return sum(m.output_size_in_bytes + m.temp_size_in_bytes for m in found)
