"""Runs a model equation by equation and measures the signal at every kernel.

The model is a function of its parameters and inputs; its jaxpr shows where each parameter meets
the signal, whatever library the layers come from.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from flaxinit.signal.layer import Layer, mean, product

# A kernel's place among the operands of its product with the signal.
_PRODUCTS = (("dot_general", 0), ("dot_general", 1), ("conv_general_dilated", 1))
_CALLS = ("jit", "custom_jvp_call", "custom_vjp_call", "remat2", "closed_call")
# Parameters by number, each with the slice that every loop around has taken of it.
Origin = frozenset[tuple[int, tuple[int, ...]]]
_NOTHING: Origin = frozenset()


class Held(NamedTuple):
    """A value and the parameters it is computed from; None for the signal: it needs the inputs."""

    value: Any
    origin: Origin | None


def measure(
    model: Callable[..., Any], params: Any, inputs: Sequence[Any], options: dict[str, Any]
) -> tuple[tuple[Layer, ...], dict[str, str]]:
    """Every kernel of a model with the signal that enters and leaves it, in order of use.

    A kernel is what is computed from parameters alone and multiplied with the signal, by
    dot_general or conv_general_dilated, in calls, branches and loops too.

    Args:
        model: ``model(params, *inputs, **options)``.
        params: the parameters, any pytree; its arrays are traced, all else is as it is.
        inputs: the model's inputs, likewise.
        options: keyword arguments, likewise.

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
    closed = jax.make_jaxpr(call)(arrays)
    names = [
        jax.tree_util.keystr(path[1:], simple=True, separator="/") or "params"
        for path in paths
        if path[0] == jax.tree_util.SequenceKey(0)
    ]
    run = _Run(names, [array.shape for array in arrays])
    origins = [frozenset({(n, ())}) if n < len(names) else None for n in range(len(arrays))]
    held = [Held(*pair) for pair in zip(arrays, origins, strict=True)]
    with jax.numpy_dtype_promotion("standard"):  # the model is traced; moments are in float32
        run.jaxpr(closed, held, ())
    used = {number for _, origin in run.found for number, _ in origin}
    unused = sorted(set(range(len(names))) - used, key=lambda n: -arrays[n].size)
    others = {names[n]: run.met.get(n, "") for n in unused}
    return tuple(mean(steps) for steps in run.found.values()), others


class _Run:
    """One run of a model. A place is an equation in its calls, the same in each step of a loop."""

    def __init__(self, names: list[str], shapes: list[tuple[int, ...]]):
        self.names, self.shapes = names, shapes
        self.found: dict[tuple[tuple[int, ...], Origin], list[Layer]] = {}
        self.met: dict[int, str] = {}

    def jaxpr(self, closed: ClosedJaxpr, operands: Sequence[Held], place) -> list[Held]:
        jaxpr, constants = closed.jaxpr, [Held(value, _NOTHING) for value in closed.consts]
        env = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *operands), strict=True))

        def read(atom):
            return Held(atom.val, _NOTHING) if isinstance(atom, Literal) else env[atom]

        variables = [[*_variables(each.invars), *each.outvars] for each in jaxpr.eqns]
        last = {var: number for number, each in enumerate(variables) for var in each}
        last |= dict.fromkeys(_variables(jaxpr.outvars), len(variables))
        for number, equation in enumerate(jaxpr.eqns):
            held = [read(atom) for atom in equation.invars]
            results = self.equation(equation, held, (*place, number))
            env.update(zip(equation.outvars, results, strict=True))
            for var in set(variables[number]):  # activations take memory
                if last[var] == number:
                    del env[var]
        return [read(atom) for atom in jaxpr.outvars]

    def equation(self, equation, held: list[Held], place) -> list[Held]:
        primitive, params = equation.primitive, equation.params
        values, origins = [each.value for each in held], [each.origin for each in held]
        if any(origins):
            if primitive.name in _CALLS:
                body = params.get("call_jaxpr", params.get("jaxpr"))
                body = body if isinstance(body, ClosedJaxpr) else ClosedJaxpr(body, ())
                return self.jaxpr(body, held, place)
            if primitive.name == "cond":
                taken = int(values[0])
                return self.jaxpr(params["branches"][taken], held[1:], (*place, taken))
        if any(origins) and None in origins:  # a loop may hold products with the signal
            if primitive.name == "while":
                return self.while_loop(params, held, place)
            if primitive.name == "scan" and params["length"]:
                return self.scan(params, held, place)
        with equation.ctx.manager:  # such as the mesh around it
            results = primitive.bind(*values, **primitive.get_bind_params(params))
        results = list(results) if primitive.multiple_results else [results]
        if None in origins:
            self.meet(equation, values, origins, results[0], place)
        return [Held(result, _union(origins)) for result in results]

    def while_loop(self, params, held: list[Held], place) -> list[Held]:
        first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        tested, constants, carry = held[:first], held[first:second], held[second:]
        while self.jaxpr(params["cond_jaxpr"], [*tested, *carry], (*place, 0))[0].value:
            carry = self.jaxpr(params["body_jaxpr"], [*constants, *carry], (*place, 1))
        return carry

    def scan(self, params, held: list[Held], place) -> list[Held]:
        first, second = params["num_consts"], params["num_consts"] + params["num_carry"]
        constants, carry, stacked = held[:first], held[first:second], held[second:]
        outputs = []
        order = range(params["length"])
        order = order[::-1] if params["reverse"] else order
        for step in order:
            slices = [_slice(each, step) for each in stacked]
            results = self.jaxpr(params["jaxpr"], [*constants, *carry, *slices], place)
            carry, rest = results[: len(carry)], results[len(carry) :]
            outputs.append(rest)
        outputs = outputs[::-1] if params["reverse"] else outputs
        return [*carry, *(_stack(steps) for steps in zip(*outputs, strict=True))]

    def meet(self, equation, values, origins: list[Origin | None], result, place) -> None:
        """Measure the kernel if the equation is its product with the signal; else note it."""
        primitive = equation.primitive
        sides = {side: origin for side, origin in enumerate(origins) if origin}
        if (primitive.name, *sides) in _PRODUCTS:
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
        else:
            for number, _ in _NOTHING.union(*sides.values()):
                self.met.setdefault(number, primitive.name)

    def path(self, origin: Origin) -> str:
        return ", ".join(
            self.names[number] + "".join(f"[{step}]" for step in steps)
            for number, steps in sorted(origin)
        )

    def shape(self, origin: Origin, kernel) -> tuple[int, ...]:
        """That of the parameter, if only transposed or reshaped: an embedding's table is."""
        (number, _), *others = origin
        shape = self.shapes[number]
        same = not others and math.prod(shape) == kernel.size
        return tuple(shape if same else kernel.shape)


def _variables(atoms: Sequence) -> list:
    return [atom for atom in atoms if not isinstance(atom, Literal)]


def _union(origins: Sequence[Origin | None]) -> Origin | None:
    known = [origin for origin in origins if origin is not None]
    return _NOTHING.union(*known) if len(known) == len(origins) else None


def _slice(held: Held, step: int) -> Held:
    origin = held.origin and frozenset((number, (*steps, step)) for number, steps in held.origin)
    return Held(held.value[step], origin)


def _stack(steps: Sequence[Held]) -> Held:
    """What a loop has stacked is no longer one of its slices."""
    value = jnp.stack([each.value for each in steps])
    origin = _union([each.origin for each in steps])
    return Held(value, origin and frozenset((number, ()) for number, _ in origin))
