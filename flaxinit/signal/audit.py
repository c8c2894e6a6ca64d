"""audit(): whether the signal of a model, at its present weights, survives the depth."""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import StringIO
from typing import Any

from flaxinit.signal.interpreter import measure
from flaxinit.signal.layer import Layer

# Of the tables of models whose weights are independent, the share that marks any layer.
_LEVEL = 0.01


@dataclass(frozen=True, repr=False)
class Audit:
    """The measured signal of a model, layer by layer; prints as a table.

    Attributes:
        layers: the kernels that meet the signal, in order of use.
        others: each parameter that is in no layer, with the operation in which it first meets the
            signal ("add" for a bias); "" where it never does.
    """

    layers: tuple[Layer, ...]
    others: dict[str, str]

    @property
    def growth(self) -> float:
        """E[y²] of the last kernel over that of the first; 1 where the signal is kept."""
        first, last = self.layers[0].signal_out, self.layers[-1].signal_out
        return last / first if first else math.nan

    @property
    def outside(self) -> tuple[Layer, ...]:
        """The layers whose E[y²] is not that of independent weights: trained, tied, not random.

        Of a hundred models with independent weights of mean 0, at most one has any.
        """
        level = _LEVEL / len(self.layers)
        bounds = [layer.bounds(level) for layer in self.layers]
        pairs = zip(self.layers, bounds, strict=True)
        return tuple(x for x, (low, high) in pairs if x.ratio < low or x.ratio > high)

    def __rich__(self):
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text  # plain: in markup, [x²] and [2] are styles

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        table.add_column("kernel", overflow="fold")
        for heading in ("shape", "fan_in", "σ_w²", "E[x²]", "E[y²]", "forecast", "ratio"):
            table.add_column(Text(heading), justify="right", no_wrap=True)
        outside = self.outside
        for layer in self.layers:
            numbers = (layer.fan_in, layer.sigma_w2, layer.signal_in, layer.signal_out)
            ratio = f"{layer.ratio:.3g}±{layer.spread:.1g}" if layer.forecast else "0/0"
            table.add_row(
                Text(layer.path),
                str(layer.shape).replace(" ", ""),
                *(f"{number:.3g}" for number in (*numbers, layer.forecast)),
                f"{ratio}{'*' if layer in outside else ' '}",
            )
        return Group(table, *(Text(remark) for remark in self._remarks()))

    def _remarks(self) -> Iterator[str]:
        first, last = self.layers[0].path, self.layers[-1].path
        if len(self.layers) > 1:
            yield f"growth {self.growth:.4g}: E[y²] of {last} over that of {first}"
        if self.outside:
            yield "* not by chance: weights depend on their input or each other, or have a mean"
        for operation in dict.fromkeys(self.others.values()):
            names = [name for name, each in self.others.items() if each == operation]
            if operation:
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                yield f"not measured, meets the signal in {operation}: {names[0]}{more}"
            else:
                yield f"not measured, never meets the signal: {', '.join(names)}"

    def __str__(self) -> str:
        from rich.console import Console

        file = StringIO()
        console = Console(file=file, color_system=None)
        console.width = console.measure(self).maximum
        console.print(self)
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines())

    __repr__ = __str__


def audit(model: Callable[..., Any], /, *inputs: Any, **options: Any) -> Audit:
    """Measure the second moment of the signal at every kernel of a model.

    Call it as the model itself:

        audit(module.apply, params, x, train=True, rngs={"dropout": key})  # Linen, Haiku
        audit(module, x)                                                   # NNX
        audit(lambda module, x: module.encode(x), module, x)               # NNX, Equinox

    A kernel is what is computed from parameters alone and enters a matrix product or convolution
    with the signal. Each ``E[y²]`` comes with its forecast,

        E[y²] = fan_in · E[W²] · E[x²] = σ_w² E[x²],

    less what falls on the zeros of a padded convolution. It holds while the weights are independent
    of their input and of each other, as at initialization, up to the spread of ``out / forecast``;
    training makes the two diverge.

    Args:
        model: ``model(params, *inputs, **options)``, such as ``module.apply``, of any library; or
            an NNX module.
        inputs: the parameters (any pytree of arrays; not with an NNX module), then real inputs, a
            batch of them. Values that are not arrays are passed on unchanged.
        options: keyword arguments of the model.

    Returns:
        An `Audit`.

    Raises:
        ValueError: if no kernel of the parameters meets the inputs.
        TypeError: if the model is a Linen module in the place of its ``apply``.

    >>> import jax, jax.numpy as jnp, flax.linen as nn, flaxinit
    >>> model = nn.Dense(2000, kernel_init=flaxinit.lecun(), use_bias=False)
    >>> x = jax.random.normal(jax.random.key(0), (64, 500))
    >>> report = audit(model.apply, model.init(jax.random.key(1), x), x)
    >>> [layer.path for layer in report.layers], round(report.layers[0].sigma_w2, 1)
    (['params/kernel'], 1.0)
    """
    nnx, linen = sys.modules.get("flax.nnx"), sys.modules.get("flax.linen")
    if linen is not None and isinstance(model, linen.Module):
        raise TypeError(
            f"A Linen module holds no parameters, so that audit cannot run "
            f"{type(model).__name__} itself: use audit(module.apply, params, x)."
        )
    if nnx is not None and isinstance(model, nnx.Module):
        # Keys and counts of random numbers are not weights: what they make is part of the signal.
        graph, random, params = nnx.split(model, nnx.RngState, ...)

        def call(params, random, *inputs, **options):
            return nnx.merge(graph, random, params)(*inputs, **options)

        layers, others = measure(call, params, (random, *inputs), options)
    elif not inputs:
        raise TypeError("audit needs the model's parameters and inputs: audit(model, params, x).")
    else:
        layers, others = measure(model, inputs[0], inputs[1:], options)
    if not layers:
        met = [f"{name} ({operation or 'never'})" for name, operation in others.items()]
        raise ValueError(
            "audit found no kernel at work: model(params, *inputs) has to multiply its inputs, "
            "which are arrays, by the arrays in params. What is in params, and the operation in "
            f"which it meets the inputs: {', '.join(met) or 'no arrays'}."
        )
    return Audit(layers, others)
