"""An interpreter that runs a model by equations and measures the signal at every kernel.

The model is a function of its parameters and inputs; its jaxpr shows where each parameter meets
the signal, whatever library the layers come from.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from flaxinit.jaxpr import bind, called, closed, evaluate, on_shards, run_while, unroll_scan
from flaxinit.paths import name
from flaxinit.signal.layer import Layer, mean, product

# A kernel's place among the operands of its product with the signal.
_PRODUCTS = (("dot_general", 0), ("dot_general", 1), ("conv_general_dilated", 1))
# Parameters by number, each with the slice that every loop around has taken of it.
Origin = frozenset[tuple[int, tuple[int, ...]]]
_NOTHING: Origin = frozenset()


class Held(NamedTuple):
    """A value with the parameters that it is computed from, or None if it needs the inputs."""

    value: Any
    origin: Origin | None


class _Product(NamedTuple):
    """An equation on one shard with the values that it reads and makes, still traced."""

    equation: Any
    values: list[Any]
    origins: list[Origin | None]
    result: Any
    place: tuple[int, ...]


def measure(
    model: Callable[..., Any], params: Any, inputs: Sequence[Any], options: dict[str, Any]
) -> tuple[tuple[Layer, ...], dict[str, str]]:
    """Measure the signal that enters and leaves every kernel of a model, in order of use.

    A kernel is computed from parameters alone and multiplied with the signal, by dot_general or
    conv_general_dilated, in calls, branches and loops too.

    Args:
        model: ``model(params, *inputs, **options)``.
        params: any pytree of parameters; here and below, arrays are traced and other values are
            passed on unchanged.
        inputs: the model's inputs.
        options: the model's keyword arguments.

    Returns:
        The layers, and for each parameter that is in none, the largest first, the operation in
        which it first met the signal, or "" if it never did.
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path((params, inputs, options))
    traced = [isinstance(leaf, jax.Array | np.ndarray) for _, leaf in leaves]

    def call(arrays):
        arrays = iter(arrays)
        whole = (next(arrays) if t else leaf for (_, leaf), t in zip(leaves, traced, strict=True))
        params, inputs, options = tree.unflatten(whole)
        return model(params, *inputs, **options)

    arrays = [leaf for (_, leaf), t in zip(leaves, traced, strict=True) if t]
    paths = [path for (path, _), t in zip(leaves, traced, strict=True) if t]
    program = jax.make_jaxpr(call)(arrays)
    names = [
        name(path[1:]) or "params" for path in paths if path[0] == jax.tree_util.SequenceKey(0)
    ]
    run = _Run(names, [array.shape for array in arrays])
    origins = [frozenset({(n, ())}) if n < len(names) else None for n in range(len(arrays))]
    held = [Held(*pair) for pair in zip(arrays, origins, strict=True)]
    with jax.numpy_dtype_promotion("standard"):  # the model is traced; moments are in float32
        run.program(program, held, ())
    used = {number for _, origin in run.found for number, _ in origin}
    unused = sorted(set(range(len(names))) - used, key=lambda n: -arrays[n].size)
    others = {names[n]: run.met.get(n, "") for n in unused}
    return tuple(mean(steps) for steps in run.found.values()), others


class _Run:
    """One run of a model.

    The place of an equation is its number in each enclosing program, the same in each step of a
    loop.
    """

    def __init__(self, names: list[str], shapes: list[tuple[int, ...]]):
        self.names, self.shapes = names, shapes
        self.found: dict[tuple[tuple[int, ...], Origin], list[Layer]] = {}
        self.met: dict[int, str] = {}
        # Products on a shard of the mesh, which have no numbers until all shards have run.
        self.on_shards: list[_Product] | None = None

    def program(self, program: ClosedJaxpr, operands: Sequence[Held], place) -> list[Held]:
        numbers = itertools.count()
        return evaluate(
            program,
            operands,
            lambda equation, held: self.equation(equation, held, (*place, next(numbers))),
            lambda atom, value: Held(value, _NOTHING),
        )

    def equation(self, equation, held: list[Held], place) -> list[Held]:
        name, params = equation.primitive.name, equation.params
        values, origins = [each.value for each in held], [each.origin for each in held]
        signal, known = None in origins, self.on_shards is None
        if any(origins):
            if name == "shard_map" and signal and known:
                return self.shards(equation, held, place)
            if name != "shard_map" and (body := called(equation)):
                return self.program(body, held, place)
            if name == "cond" and known:
                taken = int(values[0])
                return self.program(closed(params["branches"][taken]), held[1:], (*place, taken))
        if any(origins) and signal:  # a loop may hold products with the signal
            if name == "while" and known:
                return run_while(
                    equation,
                    held,
                    lambda test, held: bool(self.program(test, held, (*place, 0))[0].value),
                    lambda body, held: self.program(body, held, (*place, 1)),
                )
            if name == "scan" and params["length"]:
                step = functools.partial(self.program, place=place)
                return unroll_scan(equation, held, step, _slice, _stack)
        results = bind(equation, values)
        if signal:
            self.meet(equation, values, origins, results[0], place)
        return [Held(result, _union(origins)) for result in results]

    def shards(self, equation, held: list[Held], place) -> list[Held]:
        """Run a ``shard_map`` and measure its products on every shard."""
        origins = [each.origin for each in held]
        products: list[_Product] = []

        def run(body, values):
            self.on_shards = []
            try:
                results = self.program(body, list(map(Held, values, origins)), place)
                products[:] = self.on_shards
            finally:
                self.on_shards = None
            made[:] = [each.origin for each in results]
            return [each.value for each in results], [(p.values, p.result) for p in products]

        made: list[Origin | None] = []
        results, arrays = on_shards(equation, [each.value for each in held], run)
        for each, (values, result) in zip(products, arrays, strict=True):
            for *operands, outcome in zip(*values, result, strict=True):
                self.meet(each.equation, operands, each.origins, outcome, each.place)
        return list(map(Held, results, made))

    def meet(self, equation, values, origins: list[Origin | None], result, place) -> None:
        """Measure the kernel if the equation is its product with the signal; else note it."""
        primitive = equation.primitive
        sides = {side: origin for side, origin in enumerate(origins) if origin}
        if (primitive.name, *sides) not in _PRODUCTS:
            for number, _ in _NOTHING.union(*sides.values()):
                self.met.setdefault(number, primitive.name)
        elif self.on_shards is not None:
            self.on_shards.append(_Product(equation, values, origins, result, place))
        else:
            ((side, origin),) = sides.items()
            layer = product(
                self.path(origin),
                self.shape(origin, values[side]),
                primitive,
                equation.params,
                side,
                values,
                result,
            )
            self.found.setdefault((place, origin), []).append(layer)

    def path(self, origin: Origin) -> str:
        return ", ".join(
            self.names[number] + "".join(f"[{step}]" for step in steps)
            for number, steps in sorted(origin)
        )

    def shape(self, origin: Origin, kernel) -> tuple[int, ...]:
        """Return the parameter's shape if the kernel has all its entries, else the kernel's."""
        (number, _), *others = origin
        shape = self.shapes[number]
        same = not others and math.prod(shape) == kernel.size
        return tuple(shape if same else kernel.shape)


def _union(origins: Sequence[Origin | None]) -> Origin | None:
    known = [origin for origin in origins if origin is not None]
    return _NOTHING.union(*known) if len(known) == len(origins) else None


def _slice(held: Held, step: int) -> Held:
    origin = held.origin and frozenset((number, (*steps, step)) for number, steps in held.origin)
    return Held(held.value[step], origin)


def _stack(steps: Sequence[Held]) -> Held:
    """Stack the results of a loop's steps; the stack is no longer a slice of a parameter."""
    value = jnp.stack([each.value for each in steps])
    origin = _union([each.origin for each in steps])
    return Held(value, origin and frozenset((number, ()) for number, _ in origin))
