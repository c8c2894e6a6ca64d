"""`fast_init`, the public function."""

import contextlib
import functools
import gc
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from jax.core import Tracer

from flaxinit.initializers.checks import is_key
from flaxinit.materialize.execute import Executor, undisturbed
from flaxinit.materialize.flatten import flatten
from flaxinit.materialize.out_shardings import checked_out_shardings
from flaxinit.materialize.partition import partition
from flaxinit.materialize.places import Plan, place_outputs
from flaxinit.materialize.report import Progress, Report
from flaxinit.materialize.trace import BUILD_INSIDE, has_nnx_nodes, trace
from flaxinit.trees.rules import Rule, Rules, checked_rules, reinit


def fast_init(
    init_fn: Callable,
    out_shardings: Any = None,
    *,
    initializers: Rules | None = None,
    report: bool | Callable[[Report], None] = False,
    progress: bool = True,
) -> Callable:
    """Initialize a large model: trace it once, compile each distinct draw once, draw it in place.

    ``fast_init(init_fn)(key, *args)`` equals ``init_fn(key, *args)`` run eagerly, bit for bit,
    without the forward pass. Its compile time depends on how many *different* draws a model has
    (sampler, shape, dtype, sharding), not on how many layers repeat them. Each array is created
    shard by shard on the devices that will hold it; its values do not depend on the mesh or on
    the number of processes. Under ``jax.distributed`` every process makes the same call.

    Initializers that are made of matrix products or reductions (``orthogonal``) agree to
    rounding when they are sharded, since the mesh decides the order of the sums. In two cases JAX
    itself rounds differently on a mesh, and the last bits may differ from a run without one: in a
    jitted function of the caller on explicit axes; and, since JAX 0.11 on CPUs, in an array of
    several axes if a device holds fewer than 16 entries along the last.

    Nothing in JAX is replaced or changed: the init function runs under a trace of its own, like a
    function under a transformation.

    Args:
        init_fn: any traceable init function: Linen's ``model.init``, a function that builds an
            NNX module or its state, Haiku's, Equinox's, or one written by hand. ``lambda key:
            Model(nnx.Rngs(key))`` returns the module.
        out_shardings: where the arrays go. One of these:

            - None. Flax's partitioning metadata decides. For an array without any, it is the
              layout in which the init function leaves it (``with_sharding_constraint``, an
              initializer's ``out_sharding``, its type on explicit axes). All other arrays are
              copied to all devices of the mesh, which is that of ``jax.set_mesh`` or of the
              metadata. Without a mesh, they go where the arrays that they are computed from were
              put, or else to JAX's default device. (``device_put`` is seen in a trace; ``device=``
              in ``jnp.zeros`` is not.)
            - A pytree, or a prefix of one, of ``NamedSharding``, ``PartitionSpec`` (on the mesh
              of ``jax.set_mesh``) or None. It has the structure of the result, for an NNX module
              that of ``nnx.state(module)``: what ``nn.get_sharding``, ``nnx.get_named_sharding``,
              ``nnx.get_partition_spec`` and ``nnx.get_abstract_model`` return. None stands for a
              copy on each device of the mesh that is set; without a mesh, for where JAX leaves the
              array.
            - A function from a path such as ``"params/Dense_0/kernel"`` and a
              ``jax.ShapeDtypeStruct`` to a sharding, a ``PartitionSpec`` or None.
        initializers: rules from path patterns to initializers, as `flaxinit.reinit` takes them.
            The result is ``reinit(init_fn(key, *args), initializers, key)``, but what a rule
            replaces is never drawn. The key is the first argument, or its ``"params"``.
        report: True prints a table of the distinct draws, their compile and draw seconds and bytes
            per device, in the first process. A function is called with the `Report` instead, in
            every process.
        progress: whether to show a progress bar, on the terminal of the first process, once
            compiling and drawing take longer than a second.

    Returns:
        A function that takes what `init_fn` takes and returns what it returns. NumPy arrays become
        JAX arrays, as under ``jax.jit``; values that are not arrays, including None, are returned
        unchanged. Arguments that are arrays are traced, others are passed as they are. A
        ``jax.ShapeDtypeStruct`` is enough for an argument whose values no parameter needs, such as
        the model's input. What was compiled is kept: further calls, with other keys, only trace
        and draw.

    Raises:
        TypeError: `init_fn` cannot be traced faithfully: it has side effects, draws from Python's
            or NumPy's generators, or has shapes that depend on values. It is raised before anything
            is compiled. Only what leaves a trace is noticed: an array that is stored in the result,
            in `init_fn` or in what these refer to, but neither a list that numbers are appended to
            nor a scalar from a private NumPy generator.
        ValueError: a sharding does not fit the tree, the array (which is named) or the process. It
            is raised before anything is compiled.
        FloatingPointError: under ``jax.debug_nans`` or ``jax.debug_infs``, as in an eager run.

    >>> import jax, jax.numpy as jnp, flax.linen as nn, flaxinit
    >>> model = nn.Sequential([nn.Dense(8) for _ in range(3)])
    >>> x = jax.ShapeDtypeStruct((1, 8), jnp.float32)
    >>> variables = flaxinit.fast_init(model.init)(jax.random.key(0), x)
    >>> variables["params"]["layers_0"]["kernel"].shape
    (8, 8)
    """
    _check_function(init_fn)
    for name, option in {"report": report, "progress": progress}.items():
        if not isinstance(option, bool) and not (name == "report" and callable(option)):
            kinds = "True, False or a function" if name == "report" else "True or False"
            raise TypeError(f"{name} must be {kinds}, received {option!r}.")
    out_shardings = checked_out_shardings(out_shardings)
    ruled = init_fn if initializers is None else _ruled(init_fn, checked_rules(initializers))
    executors: dict[Any, Executor] = {}

    @functools.wraps(init_fn)
    def initialize(*args, **kwargs):
        _check_arguments(args, kwargs)
        # What was compiled is only valid for this device and this precision.
        flags = "jax_default_device", "jax_default_matmul_precision"
        context = tuple(getattr(jax.config, flag) for flag in flags)
        executor = executors.setdefault(context, Executor())
        outcome = Report()
        start = time.perf_counter()
        with _without_collector():
            traced = trace(ruled, args, kwargs)
            flat = flatten(traced.jaxpr, traced.constants)
            places = place_outputs(out_shardings, traced, flat, jax.sharding.get_mesh())
            parts = partition(flat)
            plan = Plan(parts, flat.constants, flat.outputs, places, traced.paths)
            outcome.trace_seconds = time.perf_counter() - start
            bar = Progress(sum(draw.size for draw in parts.draws), enabled=progress)
            with bar, undisturbed(traced.jaxpr):
                arrays = executor.run(plan, outcome, bar.advance)
            result = traced.rebuild(arrays)
        outcome.total_seconds = time.perf_counter() - start
        if report is True and jax.process_index() == 0:
            import rich  # slow to import: only for those who print

            rich.print(outcome)
        elif callable(report):
            report(outcome)
        return result

    return initialize


def _ruled(init_fn: Callable, rules: list[Rule]) -> Callable:
    """Return the init function, with what it makes drawn again by rules."""

    @functools.wraps(init_fn)
    def draw(*args, **kwargs):
        key = args[0] if args else None
        if isinstance(key, Mapping):
            key = key.get("params")
        if not is_key(key):
            raise TypeError(
                "with initializers=rules the first argument is the key from which they draw, or a "
                f"mapping that has it under 'params'; received {key!r}."
            )
        return reinit(init_fn(*args, **kwargs), rules, key)

    return draw


def _check_function(init_fn: Any) -> None:
    """Refuse a model instead of the function that makes its parameters; a model may be callable."""
    hint = ""
    if hasattr(init_fn, "init") and hasattr(init_fn, "apply"):
        hint = " Pass its `init` method."
    elif has_nnx_nodes(init_fn):
        hint = f" {BUILD_INSIDE}"
    if hint or not callable(init_fn):
        raise TypeError(f"init_fn must be a function, received a {type(init_fn).__name__}.{hint}")


def _check_arguments(args: tuple, kwargs: dict) -> None:
    """Refuse a call, or arguments, for which a trace could not make what an eager run makes."""
    inside = any(isinstance(x, Tracer) for x in jax.tree.leaves((args, kwargs)))
    try:
        jax.sharding.get_mesh()
    except ValueError:  # JAX gives the mesh only outside of all transformations
        inside = True
    if inside:
        raise TypeError(
            "fast_init creates arrays, so it cannot run inside jax.jit, vmap or grad. "
            "Inside a transformation call the init function itself."
        )
    if has_nnx_nodes((args, kwargs)):
        raise TypeError(
            "an NNX object was passed as an argument; a traced call would not advance its state. "
            + BUILD_INSIDE
        )


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Pause the garbage collector.

    A trace makes many small objects that stay alive until the end. Passes of the collector over
    them take a fifth of the time and free nothing.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
