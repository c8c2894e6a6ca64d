"""A model as two programs: how its parameters are made, and what it does with them."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from flaxinit.signal.reading.checked import (
    check_batch,
    check_call,
    check_inputs,
    check_measurable,
    check_runs,
    is_array,
    received,
)
from flaxinit.signal.reading.differentiated import Differentiated, differentiated
from flaxinit.signal.shards.axes import traced_without_mesh
from flaxinit.signal.shards.unsharded import has_shard_map, unsharded
from flaxinit.trees.modules import is_linen, module_of, nnx_of
from flaxinit.trees.paths import name
from flaxinit.versions.jaxpr import part


@dataclass(frozen=True)
class Programs:
    """What a model does with its parameters.

    Attributes:
        apply: (the arrays of parameters and state, arrays of the inputs) -> the output's arrays.
        pullback: traces (the same, gradients of the outputs) -> gradients of parameters, state and
            inputs, 0 for those that are not floating; and the outputs.
        names: of the parameters, as `fast_init` writes them.
        shapes: of the parameters.
        inputs: the arrays of the call, or their shapes: those given by keyword come last.
        outputs: shapes and dtypes of the output's arrays.
        tree: the structure of the parameters.
        joined: whether a ``shard_map`` was removed from ``apply``.
    """

    apply: ClosedJaxpr
    pullback: Callable[[], ClosedJaxpr]
    names: list[str]
    shapes: list[tuple[int, ...]]
    inputs: list[Any]
    outputs: list[jax.ShapeDtypeStruct]
    tree: Any
    joined: bool


@dataclass(frozen=True)
class WithInit(Programs):
    """The programs of a model and of its initialization.

    Attributes:
        init: (key, arrays of the inputs) -> the arrays of the parameters, then those of the state.
        init_on_devices: the same, with ``shard_map``: there an initializer sees its device's part.
    """

    init: ClosedJaxpr
    init_on_devices: ClosedJaxpr


def programs(
    model: Any, inputs: Sequence[Any], options: dict[str, Any], role: str = "A model"
) -> WithInit:
    """Trace a model; nothing is computed.

    Parameters are what an optimizer changes: the collection ``params`` of a Linen module, the
    ``nnx.Param`` of an NNX module, the floating and complex arrays that ``init`` of a pair returns.
    All other arrays are state.

    Args:
        model: a Linen module, a function of ``nnx.Rngs`` that builds an NNX module, or a pair
            ``(init, apply)`` of functions, such as Haiku makes.
        inputs: its inputs: arrays, or their shapes.
        options: keyword arguments of its call, among them ``rngs`` of a Linen module.
        role: what the caller calls the model, for errors.

    Raises:
        TypeError: if the model is none of these, if an input is traced, or none is an array.
        ValueError: if the batch is empty.
    """
    given, others = by_value(options)
    init, apply = _functions(model, others, role)
    check_inputs(inputs, given)
    call = _Call.of(inputs, given)
    with tracing("the model was traced"):
        key = jax.eval_shape(lambda: jax.random.key(0))
        made, variables = jax.make_jaxpr(call.after(init), return_shape=True)(key, call.arrays)
        params, state = variables
        used = traced(apply, params, state, inputs, given)
    check_batch(used.outputs)
    return WithInit(**vars(used), init=unsharded(part(made)), init_on_devices=part(made))


@contextlib.contextmanager
def tracing(what: str) -> Iterator[None]:
    """Add to an error of JAX, of a library or of the model what it came up with."""
    try:
        yield
    except Exception as error:
        error.add_note(
            f"This came up while {what} as jax.jit does: parameters and inputs have to be those of "
            "the model, and it must not branch on their values."
        )
        raise


class _Call(NamedTuple):
    """The inputs of a call, of which only the arrays are traced."""

    arrays: list[Any]
    whole: Callable[[Sequence[Any]], tuple[tuple[Any, ...], dict[str, Any]]]

    @classmethod
    def of(cls, inputs: Sequence[Any], options: dict[str, Any]) -> "_Call":
        leaves, tree = jax.tree.flatten((tuple(inputs), options))
        which = [is_array(leaf) for leaf in leaves]

        def whole(arrays):
            arrays = iter(arrays)
            pairs = zip(leaves, which, strict=True)
            return tree.unflatten(next(arrays) if a else leaf for leaf, a in pairs)

        return cls([leaf for leaf, a in zip(leaves, which, strict=True) if a], whole)

    def after(self, function: Callable) -> Callable:
        """Return a function of what comes before the inputs, and of their arrays."""

        def called(*before):
            *before, arrays = before
            inputs, options = self.whole(arrays)
            return function(*before, *inputs, **options)

        return called


def traced(
    apply: Callable,
    params: Any,
    state: Any,
    inputs: Sequence[Any],
    options: dict[str, Any],
    backward: bool = False,
) -> Programs:
    """Trace what a model does with its parameters.

    Args:
        apply: (parameters, state, *inputs) -> output.
        params: arrays, or their shapes.
        state: the same.
        inputs: the same; other values are passed on unchanged.
        options: inputs that are given by keyword.
        backward: whether its gradient is wanted: then both take one trace, if that is possible.
    """
    call = _Call.of(inputs, options)
    function, operands = call.after(apply), (params, state, call.arrays)
    found = _at_once(function, operands) if backward else None
    if found:
        run, outputs, joined = found.apply, found.outputs, False
    else:
        on_devices, output = _trace(function, *operands)
        run = unsharded(on_devices, len(jax.tree.leaves(params)))
        outputs, joined = jax.tree.leaves(output), run is not on_devices

    @functools.cache
    def pullback():
        trace = traced_without_mesh if joined else _trace
        try:
            each = found or differentiated(jaxpr_as_fun(run), jax.tree.leaves(operands), trace)
            return each.pullback()
        except Exception as error:
            error.add_note(
                "This came up while the model was differentiated as jax.grad does. If jax.grad "
                "fails as well, leave gradients out: backward=False, or keep='forward' of tune."
            )
            raise

    paths = jax.tree_util.tree_leaves_with_path(params)
    return Programs(
        part(run),
        pullback,
        [name(path) or "params" for path, _ in paths],
        [tuple(leaf.shape) for _, leaf in paths],
        call.arrays,
        outputs,
        jax.tree.structure(params),
        joined,
    )


def _trace(function: Callable, *operands: Any) -> Any:
    return jax.make_jaxpr(function, return_shape=True)(*operands)


def _at_once(function: Callable, operands: Sequence[Any]) -> Differentiated | None:
    """Trace a model together with its gradient; None if it has to be traced alone first."""
    try:
        found = differentiated(function, operands, _trace)
    except Exception:  # it is traced alone next, and that says what is wrong
        return None
    return None if has_shard_map(found.apply) else found


class WithParameters(NamedTuple):
    """A model and its parameters: ``call(params, *state, *inputs, **options)``."""

    call: Callable[..., Any]
    params: Any
    state: tuple[Any, ...]
    inputs: tuple[Any, ...]


def with_parameters(
    caller: str,
    other: str,
    model: Any,
    inputs: Sequence[Any],
    options: dict[str, Any],
    weights: Callable[[Any], Any],
) -> WithParameters:
    """Check a model that is run on arrays, and take it apart.

    Args:
        caller: the function that measures, for errors.
        other: the one that does without arrays.
        model: a function of parameters and inputs, or an NNX module.
        inputs: the parameters (not of an NNX module), then the inputs.
        options: keyword arguments of the model.
        weights: the filter of `nnx.split` for the parameters, given Flax's module ``nnx``, which is
            not loaded here if the model does not use it. All other variables are state.
    """
    check_call(caller, other, model, inputs, options)
    if nnx := nnx_of(model):
        graph, params, state = nnx.split(model, weights(nnx), ...)

        def call(params, state, *inputs, **options):
            return nnx.merge(graph, params, state)(*inputs, **options)

        check_measurable(caller, other, params, state)
        whole = WithParameters(call, params, (state,), tuple(inputs))
    else:
        whole = WithParameters(model, inputs[0], (), tuple(inputs[1:]))
    check_runs(whole.params, whole.inputs, options)
    check_inputs(whole.inputs, by_value(options)[0])
    return whole


def by_value(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split keyword arguments into inputs, which hold arrays, and settings.

    Numbers and keys are settings: a model may branch on a number.
    """

    def is_input(x: Any) -> bool:
        shape, dtype = getattr(x, "shape", ()), getattr(x, "dtype", None)
        return bool(shape) and not jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)

    found = {k for k, v in options.items() if any(map(is_input, jax.tree.leaves(v)))} - {"rngs"}
    return (
        {k: v for k, v in options.items() if k in found},
        {k: v for k, v in options.items() if k not in found},
    )


# init(key, *inputs) -> (parameters, state), and apply(parameters, state, *inputs) -> output
_Functions = tuple[Callable[..., tuple[Any, Any]], Callable[..., Any]]


def _functions(model: Any, options: dict[str, Any], role: str) -> _Functions:
    nnx, haiku = (sys.modules.get(n) for n in ("flax.nnx", "haiku"))
    if haiku is not None and isinstance(model, haiku.Transformed | haiku.TransformedWithState):
        return _haiku(haiku, model, options)
    if is_linen(model):
        return _linen(model, options)
    if isinstance(model, tuple) and len(model) == 2 and all(map(callable, model)):
        return _pair(*model, options)
    is_class = isinstance(model, type)
    built = is_class and not (nnx is not None and issubclass(model, nnx.Module))
    made = nnx_of(model) or module_of(model) is not None
    if nnx is not None and callable(model) and not made and not built:
        return _nnx(nnx, model, options)
    raise TypeError(
        f"{role} is a Linen module, a function of nnx.Rngs that builds an NNX module "
        "(lambda rngs: Model(rngs=rngs)), or a pair (init, apply) of functions; received "
        f"{received(model)}."
    )


def _linen(module: Any, options: dict[str, Any]) -> _Functions:
    from flax.core import DenyList

    options = dict(options)
    options.pop("mutable", None)  # all state may change
    rngs = options.pop("rngs", {})
    rngs = rngs if isinstance(rngs, dict) else {"dropout": rngs}
    key = jax.random.key(0)  # of what is not given: what it draws does not matter

    def init(key, *inputs, **named):
        variables = dict(module.init({**rngs, "params": key}, *inputs, **named, **options))
        return {"params": variables.pop("params", {})}, variables

    def apply(params, state, *inputs, **named):
        every = {"rngs": {"params": key, **rngs}, "mutable": DenyList("params")}
        return module.apply({**params, **state}, *inputs, **named, **every, **options)[0]

    return init, apply


def _haiku(haiku: Any, model: Any, options: dict[str, Any]) -> _Functions:
    model = haiku.without_apply_rng(model)
    init = functools.partial(model.init, **options)  # takes what apply takes
    if isinstance(model, haiku.Transformed):
        return _pair(init, model.apply, options)

    def apply(variables, *inputs, **named):
        return model.apply(*variables, *inputs, **named)[0]

    return _pair(init, apply, options)


def _pair(init: Callable, apply: Callable, options: dict[str, Any]) -> _Functions:
    structure: list[Any] = []

    def split(key, *inputs, **named):
        made = init(key, *inputs, **named)
        for path, leaf in jax.tree_util.tree_leaves_with_path(made):
            if not is_array(leaf):
                raise TypeError(
                    f"init has to return arrays; {name(path) or 'what it returns'} is a "
                    f"{type(leaf).__name__}. Of an Equinox module, return "
                    "equinox.filter(module, equinox.is_array)."
                )
        leaves, tree = jax.tree.flatten(made)
        floating = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves]
        structure[:] = [floating, tree]
        if all(floating):
            return tree.unflatten(leaves), []
        pairs = list(zip(leaves, floating, strict=True))
        params = tree.unflatten(leaf if f else None for leaf, f in pairs)
        return params, [leaf for leaf, f in pairs if not f]

    def whole(params, state, *inputs, **named):
        floating, tree = structure
        params, state = iter(jax.tree.leaves(params)), iter(state)
        leaves = [next(params if f else state) for f in floating]
        return apply(tree.unflatten(leaves), *inputs, **named, **options)

    return split, whole


def _nnx(nnx: Any, build: Callable, options: dict[str, Any]) -> _Functions:
    graph: list[Any] = []

    def init(key, *_, **__):
        module = build(nnx.Rngs(key))
        if is_linen(module):
            raise TypeError(
                f"A function of nnx.Rngs builds an NNX module; this one returns the Linen module "
                f"{type(module).__name__}. Call the function, and pass the module."
            )
        definition, params, state = nnx.split(module, nnx.Param, ...)
        graph[:] = [definition]
        return params, state

    def apply(params, state, *inputs, **named):
        return nnx.merge(graph[0], params, state)(*inputs, **named, **options)

    return init, apply
