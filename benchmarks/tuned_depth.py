"""Plain networks of 100 layers as tune() starts them: the second moment of each layer, over draws.

    python -m benchmarks.tuned_depth [--layers 100] [--width 256] [--populations 128]

The second moment of one draw is a product of 100 random factors. Its mean over draws is carried by
a few draws in a thousand, so plain draws say little about it. Here a population of draws goes
through the layers together. After each layer its members are drawn again, each as often as its
second moment grew, and the product of the mean growths is an unbiased estimate of the mean.

The kernels of a population are those of one draw with random signs on their inputs: as entries are
independent and symmetric, each member sees a kernel of the right law. The mean over populations has
its standard error from them.

References: Del Moral (2004), Feynman-Kac formulae: genealogical and interacting particle systems.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import flaxinit
from benchmarks.store import environment
from benchmarks.view import COLORS, panels, save

RESULTS = Path(__file__).parent / "results"
MEMBERS = 512
ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh, "gelu": nn.gelu}
# Activations and levels. At level 1 the fixed point of GELU is unstable: single draws leave it.
CASES = (("relu", None), ("tanh", None), ("gelu", None), ("gelu", 400.0))
_INIT = nn.initializers.lecun_normal()


class Plain(nn.Module):
    """Dense layers without biases, with an activation before each but the first."""

    activation: str
    layers: int
    width: int

    @nn.compact
    def __call__(self, x):
        for n in range(self.layers):
            x = ACTIVATIONS[self.activation](x) if n else x
            x = nn.Dense(self.width, use_bias=False, kernel_init=_INIT)(x)
        return x


@partial(jax.jit, static_argnames=("activation", "selected"))
def population(key, inputs, factors, activation: str, selected: bool = True):
    """Take a population through the layers.

    Args:
        key: of all draws.
        inputs: of each member, members × width.
        factors: on the kernels of the layers.
        activation: its name.
        selected: whether members are drawn again after each layer.

    Returns:
        By layer, the mean growth of the members' second moments, and these.
    """
    members, width = inputs.shape

    def layer(state, step):
        h, before = state
        n, factor = step
        keys = jax.random.split(jax.random.fold_in(key, n), 3)
        x = jnp.where(n == 0, h, ACTIVATIONS[activation](h))
        signs = jax.random.rademacher(keys[0], x.shape, x.dtype)
        y = (signs * x) @ (factor * _INIT(keys[1], (width, width)))
        square = jnp.mean(y**2, axis=1)
        growth = square / before
        if selected:  # systematically: members keep their order, and whole numbers of copies
            ends = jnp.cumsum(growth) / jnp.sum(growth)
            places = (jnp.arange(members, dtype=y.dtype) + jax.random.uniform(keys[2])) / members
            chosen = jnp.minimum(jnp.searchsorted(ends, places), members - 1)
            y, after = y[chosen], square[chosen]
        else:
            after = square
        return (y, after), (jnp.mean(growth), square)

    steps = jnp.arange(len(factors)), factors
    return jax.lax.scan(layer, (inputs, jnp.ones(members)), steps)[1]


def factors(init: flaxinit.Tuned) -> jax.Array:
    """Return the factors on the kernels of a plain network, by layer."""
    found = init.factors
    return jnp.array([found[f"params/Dense_{n}/kernel"] for n in range(len(found))])


def row(activation: str, level: float | None, layers: int, width: int, populations: int) -> dict:
    """Measure one network."""
    inputs = jax.random.normal(jax.random.key(0), (8, width))
    init = flaxinit.tune(Plain(activation, layers, width), inputs, level=level)
    members = jnp.resize(inputs, (MEMBERS, width))
    keys = jax.random.split(jax.random.key(1), populations + 1)
    run = partial(population, inputs=members, factors=factors(init), activation=activation)
    growths = np.array([run(key)[0] for key in keys[1:]], np.float64)
    means = np.cumprod(growths, axis=1)
    single = np.array(run(keys[0], selected=False)[1])
    return {
        "activation": activation,
        "level": level,
        "mean": means.mean(0).tolist(),
        "standard error": (means.std(0, ddof=1) / populations**0.5).tolist(),
        "single draws, quantiles": np.quantile(single, (0.025, 0.5, 0.975), axis=1).tolist(),
        "remark": init.factors.remark,
    }


def text(found: dict) -> str:
    first, last = found["mean"][0], found["mean"][-1]
    error = found["standard error"][-1] / first
    median = found["single draws, quantiles"][1][-1] / first
    return (
        f"{label(found):18} last over first: {last / first:.3f} ± {error:.3f} in the mean, "
        f"{median:.2g} in the median"
    )


def label(found: dict) -> str:
    return found["activation"] + (f", level {found['level']:g}" if found["level"] else "")


def plot(rows: list[dict], title: str):
    """Draw the mean over draws as a line with its standard errors, and single draws as a band."""
    figure, axes = panels(title, len(rows), width=4.4, height=2.8, columns=2, sharey=True)
    for axis, found, color in zip(axes, rows, COLORS, strict=False):
        layers, first = np.arange(1, len(found["mean"]) + 1), found["mean"][0]
        low, median, high = np.array(found["single draws, quantiles"]) / first
        mean, error = (np.array(found[key]) / first for key in ("mean", "standard error"))
        axis.fill_between(layers, low, high, color=color, alpha=0.2, lw=0, label="95 % of draws")
        axis.plot(layers, median, ":", color=color, label="median")
        axis.errorbar(layers[::9], mean[::9], error[::9], color=color, lw=1.5, label="mean")
        axis.axhspan(0.9, 1.1, color="black", alpha=0.15, lw=0)
        # An unstable network leaves the window: its median is as small as 1e-24.
        axis.set(yscale="log", ylim=(0.01, 30), xlabel="layer", title=label(found))
        axis.set_ylabel("over the first layer's")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8, loc="lower left")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, default=100)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--populations", type=int, default=128)
    options = parser.parse_args()
    rows = []
    for activation, level in CASES:
        rows.append(row(activation, level, **vars(options)))
        print(text(rows[-1]), flush=True)
    found = {"environment": environment(), **vars(options), "members": MEMBERS, "rows": rows}
    (RESULTS / "tuned_depth.json").write_text(json.dumps(found, indent=1) + "\n")
    title = (
        f"Second moments after tune(), {options.layers} layers of width {options.width}. "
        "Gray: 10 % off the first"
    )
    save(plot(rows, title), RESULTS / "tuned_depth.png")


if __name__ == "__main__":
    main()
