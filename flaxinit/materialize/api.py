"""The public function: trace, partition, place, draw."""

import contextlib
import functools
import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from flaxinit.materialize.execute import Executor
from flaxinit.materialize.flatten import flatten
from flaxinit.materialize.partition import partition
from flaxinit.materialize.placement import auto_mesh, check_out_shardings, place_outputs
from flaxinit.materialize.progress import Progress
from flaxinit.materialize.report import Report
from flaxinit.materialize.trace import check_arguments, trace


def fast_init(
    init_fn: Callable,
    out_shardings: Any = None,
    *,
    report: bool | Callable[[Report], None] = False,
    progress: bool = True,
) -> Callable:
    """Initialise a large model: traced once, each distinct draw compiled once, sharded in place.

    ``fast_init(init_fn)(key, *args)`` equals ``init_fn(key, *args)`` run eagerly, bit for bit,
    without the forward pass. Its compile time depends on how many *different* draws a model has
    (sampler, shape, dtype, sharding), not on how many layers repeat them. Each array is created
    shard by shard on the devices that will hold it; its values do not depend on the mesh or on
    the number of processes. Under ``jax.distributed`` every process makes the same call.

    Initializers that are made of matrix products or reductions (``orthogonal``) agree to
    rounding when they are sharded, since the mesh decides the order of the sums.

    Args:
      init_fn: any traceable init function: Linen's ``model.init``, a function that builds an NNX
        module or its state, Haiku's, Equinox's, or one written by hand. ``lambda key:
        Model(nnx.Rngs(key))`` returns the module.
      out_shardings: where the arrays go.
        None: what the model says through Flax's partitioning metadata, on the mesh of the
        metadata or of ``jax.set_mesh``; on a mesh, arrays without metadata are copied to all
        devices; without a mesh, everything is on JAX's default device.
        A pytree, or prefix of one, of ``NamedSharding``, ``PartitionSpec`` (on the mesh of
        ``jax.set_mesh``) or None, with the structure of the result (of ``nnx.state(module)``
        for an NNX module).
        A function from a path such as ``"params/Dense_0/kernel"`` and a
        ``jax.ShapeDtypeStruct`` to one of these.
      report: True prints a table of the distinct draws, their compile and draw seconds and bytes
        per device; a function is called with the `Report` instead.
      progress: show a progress bar once an initialisation takes longer than a second, on a
        terminal.

    Returns:
      A function that takes what `init_fn` takes and returns what it returns. Arguments that are
      arrays are traced, others are passed as they are; ``jax.ShapeDtypeStruct`` will do for an
      argument whose values no parameter needs, such as the model's input. It keeps what it has
      compiled: further calls, with other keys, trace again and draw.

    Raises:
      TypeError: `init_fn` cannot be traced faithfully: it has side effects, draws from Python's
        or NumPy's generators, or has shapes that depend on values. Only what leaves a trace can
        be noticed: not a list that is appended to, nor a scalar from a private NumPy generator.
      ValueError: a sharding does not fit the tree, the array (which is named) or the process.
      Both are raised before anything is compiled.

    Examples:
      >>> import jax, jax.numpy as jnp, flax.linen as nn, flaxinit
      >>> model = nn.Sequential([nn.Dense(8) for _ in range(3)])
      >>> x = jax.ShapeDtypeStruct((1, 8), jnp.float32)
      >>> variables = flaxinit.fast_init(model.init)(jax.random.key(0), x)
      >>> variables["params"]["layers_0"]["kernel"].shape
      (8, 8)
    """
    is_model = hasattr(init_fn, "init") and hasattr(init_fn, "apply")
    if is_model or not callable(init_fn):  # a Linen module is callable too
        hint = " Pass its `init` method." if is_model else ""
        raise TypeError(f"init_fn must be a function, received {init_fn!r}.{hint}")
    check_out_shardings(out_shardings)
    executors: dict[Any, Executor] = {}

    @functools.wraps(init_fn)
    def initialise(*args, **kwargs):
        check_arguments(args, kwargs)
        mesh = jax.sharding.get_mesh()
        # What was compiled holds where it was compiled, and as precisely.
        flags = "jax_default_device", "jax_default_matmul_precision"
        context = mesh, *(getattr(jax.config, flag) for flag in flags)
        executor = executors.setdefault(context, Executor())
        outcome = Report()
        start = time.perf_counter()
        automatic = contextlib.nullcontext() if mesh.empty else jax.set_mesh(auto_mesh(mesh))
        with automatic, _without_collector():
            traced = trace(init_fn, args, kwargs)
            shardings = place_outputs(out_shardings, traced.tree, traced.paths, mesh)
            flat = flatten(traced.jaxpr, traced.constants)
            parts = partition(flat)
            outcome.trace_seconds = time.perf_counter() - start
            bar = Progress(sum(d.size for d in parts.draws), enabled=progress)
            # What was traced is compiled, even where jit is disabled; keys come from the host.
            with bar, jax.disable_jit(False), jax.transfer_guard("allow"):
                arrays = executor.run(flat, parts, shardings, traced.paths, outcome, bar.advance)
            result = traced.rebuild(arrays)
        outcome.total_seconds = time.perf_counter() - start
        if report is True:
            import rich  # slow to import: only for those who print

            rich.print(outcome)
        elif report:
            report(outcome)
        return result

    return initialise


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """A trace makes many small objects that stay alive until the end.

    Passes of the garbage collector over them take a fifth of the time and free nothing.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
