"""forecast() against draws: for each model the errors of its kernels' signals and gradients.

    python -m benchmarks.forecasts [--width 256] [--draws 32]

Each kernel's second moment, and that of its gradient where the output has a unit Gaussian gradient,
is held against the mean over draws of the parameters. An error is the forecast over that mean,
less 1; beside it stands the standard error of the mean.
"""

import argparse
import json
import time
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import flaxinit
from benchmarks.store import environment
from benchmarks.view import COLORS, panels
from benchmarks.zoo import linen
from flaxinit.paths import name

RESULTS = Path(__file__).parent / "results"
KERNELS = (nn.Dense, nn.DenseGeneral, nn.Conv, nn.ConvTranspose)
Draws = dict[str, np.ndarray]


def measured(model: nn.Module, *inputs, draws: int = 32, **options) -> tuple[Draws, Draws]:
    """By kernel, E[y²] and E[dW²] in each draw of a Linen model.

    Biases are 0 at the start, so a layer's output is its kernel's.
    """

    def one(key):
        keys = jax.random.split(key)
        variables = model.init(keys[0], *inputs, **options)
        others = {k: v for k, v in variables.items() if k != "params"}

        def run(params):
            return model.apply(
                {"params": params, **others},
                *inputs,
                mutable=["intermediates", "batch_stats"],
                capture_intermediates=lambda module, method: isinstance(module, KERNELS),
                **options,
            )

        out, pull, state = jax.vjp(run, variables["params"], has_aux=True)
        (slopes,) = pull(jax.random.normal(keys[1], out.shape))
        return jax.tree.map(lambda x: jnp.mean(x**2), (state["intermediates"], slopes))

    keys = jax.random.split(jax.random.key(1), draws)
    trees = jax.jit(lambda keys: jax.lax.map(one, keys))(keys)
    outputs, slopes = (
        {
            "params/" + name(path).replace("__call__/0", "kernel"): np.array(values)
            for path, values in jax.tree_util.tree_leaves_with_path(tree)
        }
        for tree in trees
    )
    return outputs, slopes


def compared(forecast: dict[str, float | None], draws: Draws) -> dict[str, tuple[float, float]]:
    """By kernel, the error of the forecast and the standard error of the mean over draws."""
    table = {}
    for path, values in draws.items():
        if (expected := forecast.get(path)) is not None:
            mean = float(values.mean())
            error = float(values.std(ddof=1)) / len(values) ** 0.5
            table[path] = (expected / mean - 1, error / mean)
    return table


def row(title: str, model: nn.Module, inputs, options, draws: int) -> dict:
    """Forecast one model and draw it; return the errors."""
    start = time.process_time()
    report = flaxinit.forecast(model, *inputs, backward=True, **options)
    seconds = time.process_time() - start
    signals, slopes = measured(model, *inputs, draws=draws, **options)
    forward = compared({layer.path: layer.signal_out for layer in report.layers}, signals)
    backward = compared({layer.path: layer.gradient_parameter for layer in report.layers}, slopes)
    return {"model": title, "seconds": seconds, "forward": forward, "backward": backward}


def text(found: dict) -> str:
    """One line of the table."""
    parts = [f"{found['model']:20} {found['seconds']:5.1f} s"]
    for way in ("forward", "backward"):
        kernels = found[way]
        errors = np.abs([error for error, _ in kernels.values()])
        worst = max(kernels, key=lambda path: abs(kernels[path][0]))
        chance = np.median([error for _, error in kernels.values()])
        parts.append(
            f"{way} median {np.median(errors):6.1%}, largest {errors.max():6.1%} "
            f"(± {kernels[worst][1]:.1%}, {worst.removeprefix('params/')}); ± {chance:.1%}"
        )
    return "\n    ".join(parts)


def plot(rows: list[dict], title: str):
    """Draw an error bar for each kernel, grouped by model."""
    figure, axes = panels(title, 2, width=6, height=4.6, sharey=True)
    for axis, way in zip(axes, ("forward", "backward"), strict=True):
        for place, found in enumerate(reversed(rows)):
            values = np.array(list(found[way].values()))
            spots = place + np.linspace(-0.3, 0.3, len(values))
            axis.errorbar(
                100 * values[:, 0], spots, xerr=300 * values[:, 1],
                fmt="o", ms=3, lw=0.8, color=COLORS[4],
            )  # fmt: skip
        axis.axvline(0, color="black", lw=0.8)
        axis.set_yticks(range(len(rows)), [found["model"] for found in reversed(rows)])
        axis.set(xlabel="error of the forecast, %, ± 3 standard errors", title=way)
        axis.grid(axis="x", alpha=0.3)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--draws", type=int, default=32)
    options = parser.parse_args()
    rows = []
    with jax.numpy_dtype_promotion("standard"):  # Flax's pooling divides by an integer
        for title, (model, inputs, keywords) in linen(options.width).items():
            rows.append(row(title, model, inputs, keywords, options.draws))
            print(text(rows[-1]), flush=True)
    found = {"environment": environment(), **vars(options), "rows": rows}
    (RESULTS / "forecast.json").write_text(json.dumps(found, indent=1) + "\n")
    title = f"forecast against {options.draws} draws at width {options.width}"
    plot(rows, title).savefig(RESULTS / "forecast.png", dpi=120)


if __name__ == "__main__":
    main()
