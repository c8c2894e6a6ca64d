"""Runs a model equation by equation and measures the signal at every kernel.

The model is a function of its parameters and inputs; its jaxpr shows where each parameter meets
the signal, whatever library the layers come from.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

# What hands a parameter on without computing with it.
_CARRIERS = frozenset(
    {"convert_element_type", "copy", "reshape", "transpose", "broadcast_in_dim", "squeeze"}
)


@dataclass(frozen=True)
class Layer:
    """One kernel at work: y = W x, summed over fan_in terms.

    Attributes:
        path: where the kernel is in the parameters.
        shape: the kernel's shape.
        fan_in: the number of terms summed into one output.
        kernel: mean of W².
        signal_in: mean of x².
        signal_out: mean of y².
    """

    path: str
    shape: tuple[int, ...]
    fan_in: int
    kernel: float
    signal_in: float
    signal_out: float

    @property
    def sigma_w2(self) -> float:
        """fan_in · E[W²], the factor that the theory calls σ_w²."""
        return self.fan_in * self.kernel

    @property
    def forecast(self) -> float:
        """σ_w² E[x²]: what E[y²] is while W is independent of x, as at initialization."""
        return self.sigma_w2 * self.signal_in


def measure(model: Callable[..., Any], params: Any, *inputs: Any) -> tuple[Layer, ...]:
    """Every kernel of a model with the signal that enters and leaves it, in order of use.

    Args:
        model: ``model(params, *inputs)``, such as ``module.apply``.
        params: the parameters, any pytree of arrays.
        inputs: the model's inputs.

    Returns:
        One `Layer` a use of a kernel. What runs inside a loop (`jax.lax.scan`) is one equation
        here and is not looked into.
    """
    closed = jax.make_jaxpr(model)(params, *inputs)
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    values = [leaf for _, leaf in leaves] + jax.tree.leaves(inputs)
    owners = names + [None] * (len(values) - len(names))
    found: list[Layer] = []
    _run(closed.jaxpr, closed.consts, values, owners, found)
    return tuple(found)


def _run(jaxpr: Jaxpr, consts, values, owners, found: list[Layer]) -> tuple[list, list]:
    env = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *values), strict=True))
    owner = dict(zip(jaxpr.invars, owners, strict=True))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else env[atom]

    def owned(atom):
        return None if isinstance(atom, Literal) else owner.get(atom)

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        held = [owned(atom) for atom in equation.invars]
        body = _body(equation)
        if body is not None:
            results, names = _run(body.jaxpr, body.consts, operands, held, found)
        else:
            params = equation.primitive.get_bind_params(equation.params)
            results = equation.primitive.bind(*operands, **params)
            results = results if equation.primitive.multiple_results else [results]
            carried = held[0] if equation.primitive.name in _CARRIERS else None
            names = [carried] * len(results)
            found.extend(_layers(equation, operands, held, results[0]))
        env.update(zip(equation.outvars, results, strict=True))
        owner.update(zip(equation.outvars, names, strict=True))
    return [read(atom) for atom in jaxpr.outvars], [owned(atom) for atom in jaxpr.outvars]


def _body(equation) -> ClosedJaxpr | None:
    """The inner jaxpr of a call that only wraps its body."""
    if equation.primitive.name not in ("jit", "custom_jvp_call", "custom_vjp_call", "remat2"):
        return None
    body = equation.params.get("call_jaxpr", equation.params.get("jaxpr"))
    return body if isinstance(body, ClosedJaxpr) else ClosedJaxpr(body, ())


def _layers(equation, operands, held, result) -> Iterator[Layer]:
    name = equation.primitive.name
    if name == "dot_general":
        axes = equation.params["dimension_numbers"][0]
        sides = [i for i in (0, 1) if held[i] is not None]
        if len(sides) != 1:  # two activations (attention), or two parameters
            return
        (side,) = sides
        kernel = operands[side]
        fan_in = math.prod(kernel.shape[axis] for axis in axes[side])
        yield _layer(held[side], kernel, fan_in, operands[1 - side], result)
    elif name == "conv_general_dilated" and held[1] is not None:
        kernel = operands[1]
        spec = equation.params["dimension_numbers"].rhs_spec
        fan_in = math.prod(kernel.shape[axis] for axis in spec[1:])
        yield _layer(held[1], kernel, fan_in, operands[0], result)


def _layer(path: str, kernel, fan_in: int, signal, result) -> Layer:
    moments = [float(jnp.mean(jnp.abs(jnp.asarray(a)) ** 2)) for a in (kernel, signal, result)]
    return Layer(path, tuple(kernel.shape), fan_in, *moments)
