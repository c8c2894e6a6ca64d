"""audit(): does the signal of this model, at these weights, survive its depth?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flaxinit.signal.interpreter import Layer, measure


@dataclass(frozen=True)
class Audit:
    """The measured signal of a model, layer by layer; prints as a table with rich."""

    layers: tuple[Layer, ...]

    @property
    def growth(self) -> float:
        """E[y²] of the last kernel over that of the first; 1 where the signal is kept."""
        return self.layers[-1].signal_out / self.layers[0].signal_out

    def __rich__(self):
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("kernel", "shape", "σ_w²", "E[x²] in", "E[y²] out", "forecast"):
            table.add_column(heading, justify="left" if heading == "kernel" else "right")
        for layer in self.layers:
            numbers = (layer.sigma_w2, layer.signal_in, layer.signal_out, layer.forecast)
            table.add_row(layer.path, str(layer.shape), *(f"{number:.4g}" for number in numbers))
        return table


def audit(model: Callable[..., Any], params: Any, *inputs: Any) -> Audit:
    """Measure the second moment of the signal at every kernel of a model.

    Beside each ``E[y²]`` stands its forecast ``fan_in · E[W²] · E[x²]``, which holds while the
    kernel is independent of its input, as at initialization; zero padding of a convolution and
    training make them part.

    Args:
        model: ``model(params, *inputs)``, such as ``module.apply``; of any library.
        params: the parameters, any pytree of arrays.
        inputs: real inputs, a batch of them.

    Returns:
        An `Audit`.

    Raises:
        ValueError: if no kernel of the parameters meets the inputs.

    >>> import jax, jax.numpy as jnp, flax.linen as nn, flaxinit
    >>> model = nn.Dense(2000, kernel_init=flaxinit.lecun(), use_bias=False)
    >>> x = jax.random.normal(jax.random.key(0), (64, 500))
    >>> report = audit(model.apply, model.init(jax.random.key(1), x), x)
    >>> [layer.path for layer in report.layers], round(report.layers[0].sigma_w2, 1)
    (['params/kernel'], 1.0)
    """
    layers = measure(model, params, *inputs)
    if not layers:
        raise ValueError(
            "audit found no kernel at work: model(params, *inputs) has to multiply its inputs "
            "by the arrays in params, outside of loops such as jax.lax.scan"
        )
    return Audit(layers)
