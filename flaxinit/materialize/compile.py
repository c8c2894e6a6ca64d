"""One segment becomes one executable."""

import time
from typing import Any

import jax
from jax.sharding import Sharding

from flaxinit.materialize.atoms import aval, is_key, unwrapped, wrapped
from flaxinit.materialize.placement import auto
from flaxinit.materialize.segment import Segment


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
    """The executable and the seconds it took.

    With the compiler's defaults, as in an eager run: on CPU other ways to emit a loop would compile
    faster, and round some functions differently (the tangent in ``jax.random.cauchy``).
    """
    start = time.perf_counter()
    return lowered.compile(), time.perf_counter() - start


def memory(executables: list[Any]) -> int | None:
    """Bytes of results and temporaries on a device; None if the backend does not tell."""
    found = [executable.memory_analysis() for executable in executables]
    if any(m is None for m in found):
        return None
    return sum(m.output_size_in_bytes + m.temp_size_in_bytes for m in found)
