"""forecast() against draws: for each model the errors of its kernels' signals and gradients.

    python -m benchmarks.forecasts [--width 256] [--draws 32] [--only encoder]
    python -m benchmarks.forecasts --sweep [--draws 32]

Each kernel's second moment, and the second moment of its gradient where the output has a unit
Gaussian gradient, are held against the mean over draws of the parameters; the correlations of its
outputs against ratios of such means. An error is the forecast over the mean, less 1 (of
correlations, the difference); beside it stands the standard error of what was measured.

An error is out of bounds if it exceeds the tolerance and three standard errors. The tolerance is
narrow where a norm fixes what the kernel reads: where, by the rules of the operations before, that
has the same second moment in each draw. Gradients that the report itself calls rough are shown, and
not counted; `--sweep` shows how their errors shrink with the width.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import flaxinit
from benchmarks.store import environment
from benchmarks.view import COLORS, panels, save
from benchmarks.zoo import StandardizedConv, linen, modules
from flaxinit.signal.reading.model import programs
from flaxinit.trees.paths import name
from flaxinit.versions.jaxpr import bind, evaluate

RESULTS = Path(__file__).parent / "results"
KERNELS = (nn.Dense, nn.DenseGeneral, nn.Conv, nn.ConvTranspose, StandardizedConv)
Draws = dict[str, np.ndarray]
Errors = dict[str, tuple[float, float]]  # with standard errors
# What may be off: second moments at kernels that read a normed signal and at others, correlations,
# gradients. They are the project's goals, and no bounds of theory or of a sample's error.
NORMED, OTHERS, CORRELATION, GRADIENT = 0.03, 0.10, 0.05, 0.15
# The gradients of a network with layer norms and GELU may be off by more.
GRADIENT_OF = {"encoder, pre-LN": 0.2, "encoder, post-LN": 0.2, "vision transformer": 0.2}
# Models with rough gradients, by width; those of recurrent cells are cheap.
_WIDE, _CELL = (256, 512, 1024), (64, 128, 256, 512)
SWEPT = {"LSTM": _CELL, "GRU": _CELL}
SWEPT |= {"encoder, post-LN": _WIDE, "MLP-Mixer": _WIDE, "depthwise": _WIDE}
_PARTICLES = 2**16  # so that less is left of what the width does not change


class Measured(NamedTuple):
    """By kernel, E[y²] and E[dW²] of each draw."""

    signals: Draws
    slopes: Draws


class Correlated(NamedTuple):
    """By kernel, the correlations of two positions and of two samples, with standard errors."""

    positions: Errors
    samples: Errors


def measured(
    model: nn.Module, *inputs, draws: int = 32, backward: bool = True, **options
) -> Measured:
    """Draw a Linen model, so many times; without `backward`, there are no slopes.

    Biases are 0 at the start, so a layer's output is its kernel's.
    """

    def squares(tree):
        return jax.tree.map(lambda y: jnp.mean(y**2), tree)

    def one(key):
        keys = jax.random.split(key)
        params, run = _drawn(model, inputs, options, keys[0])
        if not backward:
            return squares(run(params)[1]), {}
        out, pull, outputs = jax.vjp(run, params, has_aux=True)
        (slopes,) = pull(jax.random.normal(keys[1], out.shape))
        return squares(outputs), squares(slopes)

    return Measured(*(dict(_named(tree)) for tree in _mapped(one, draws)))


def correlated(model: nn.Module, *inputs, draws: int = 32, **options) -> Correlated:
    """Draw a Linen model, and pool the correlations E[y_i y_j] / √(E[y_i²] E[y_j²]) of places.

    The expectations are means over channels and draws, as in a forecast. The mean of the cosines of
    single draws is another number where channels are few: with n of them it is less by about
    c (1 - c²) / 2n.
    """

    def outputs(key):
        params, run = _drawn(model, inputs, options, jax.random.split(key)[0])
        return jax.tree_util.tree_map_with_path(_places, run(params)[1])

    squares = _mapped(lambda key: jax.tree.map(lambda y: jnp.mean(y**2, -1), outputs(key)), draws)
    squares = jax.tree.map(lambda q: jnp.mean(q, 0), squares)

    def one(key):
        return [
            jax.tree.map(partial(_products, axis=axis), outputs(key), squares) for axis in (1, 0)
        ]

    return Correlated(
        *({p: _pooled(*np.moveaxis(x, 1, 0)) for p, x in _named(t)} for t in _mapped(one, draws))
    )


def _drawn(model: nn.Module, inputs, options, key):
    """Return parameters, and a function of them: the model's output, and those of its kernels."""
    variables = model.init(key, *inputs, **options)
    others = {k: v for k, v in variables.items() if k != "params"}

    def run(params):
        out, state = model.apply(
            {"params": params, **others},
            *inputs,
            mutable=["intermediates", "batch_stats"],
            capture_intermediates=lambda module, method: isinstance(module, KERNELS),
            **options,
        )
        return out, state["intermediates"]

    return variables["params"], run


def _mapped(one: Callable, draws: int):
    return jax.jit(partial(jax.lax.map, one))(jax.random.split(jax.random.key(1), draws))


def _named(tree) -> Iterator[tuple[str, np.ndarray]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield "params/" + name(path).replace("__call__/0", "kernel"), np.array(leaf)


def _places(path, y):
    """Return outputs as samples × positions × channels."""
    heads = any(part in name(path) for part in ("query", "key", "value"))
    channels = math.prod(y.shape[-2:] if heads else y.shape[-1:])
    return y.reshape(len(y), -1, channels)


def _products(y, squares, axis: int):
    """Return the mean product of each place with the others along an axis, and its square.

    Both are those of one draw, over the root mean squares of all draws; nan if there is no other.
    """
    y, count = y / jnp.sqrt(jnp.where(squares > 0, squares, 1))[..., None], y.shape[axis]
    others = (jnp.sum(y, axis, keepdims=True) - y) / (count - 1) if count > 1 else jnp.nan
    return jnp.stack([jnp.mean(y * others, -1), jnp.mean(y**2, -1)])


def _pooled(products: np.ndarray, squares: np.ndarray) -> tuple[float, float]:
    """Return a correlation and its standard error, by the delta method.

    Args:
        products: draws × samples × positions.
        squares: of the same, with the mean 1 over draws.
    """
    mean = products.mean(0)
    influence = np.mean(products - mean * squares, axis=(1, 2))
    return float(mean.mean()), float(influence.std(ddof=1)) / len(influence) ** 0.5


def audited(build, *inputs, draws: int = 32) -> tuple[Measured, Correlated]:
    """Draw an NNX module, so many times, as audit() measures it, with a new gradient each time.

    Its cosines are those of single draws, which are correlations up to 1 / channels.
    """
    traced = programs(build, inputs, {})
    pullback, (output,) = traced.pullback(), traced.outputs

    @jax.jit
    def slopes(key):
        keys = jax.random.split(key)
        made = evaluate(traced.init, [keys[0], *inputs], bind)
        out = jax.random.normal(keys[1], output.shape, output.dtype)
        results = evaluate(pullback, [*made, *inputs, out], bind)
        return [jnp.mean(x**2) for x in results[: len(traced.names)]]

    fields = ("signal_out", "positions", "samples")
    found: dict[str, dict[str, list]] = {field: {} for field in (*fields, "slopes")}
    for seed in range(draws):
        for path, value in zip(traced.names, slopes(jax.random.key(seed)), strict=True):
            found["slopes"].setdefault(path, []).append(value)
        for layer in flaxinit.audit(build(nnx.Rngs(seed)), *inputs, backward=False).layers:
            for field in fields:
                found[field].setdefault(layer.path, []).append(getattr(layer.measured, field))
    arrays = {k: {p: np.array(v, float) for p, v in each.items()} for k, each in found.items()}
    cosines = ({p: _mean(v) for p, v in arrays[k].items()} for k in ("positions", "samples"))
    return Measured(arrays["signal_out"], arrays["slopes"]), Correlated(*cosines)


def _mean(values: np.ndarray) -> tuple[float, float]:
    """Return the mean and its standard error."""
    return float(values.mean()), float(values.std(ddof=1)) / len(values) ** 0.5


def compared(forecast: Mapping[str, float | None], draws: Draws) -> Errors:
    """By kernel, the error of the forecast and the standard error of the mean over draws."""
    table = {}
    for path, values in draws.items():
        if (expected := forecast.get(path)) is not None:
            mean, error = _mean(values)
            table[path] = (expected / mean - 1, error / mean)
    return table


def differing(forecast: Mapping[str, float | None], found: Errors) -> Errors:
    """By kernel, the forecast less what was found, and the standard error of that."""
    return {
        path: (expected - value, error)
        for path, (value, error) in found.items()
        if (expected := forecast.get(path)) is not None and math.isfinite(value)
    }


def row(title: str, model, inputs, options, draws: int, particles: int = 4096) -> dict:
    """Forecast one model and draw it; return the errors."""
    start = time.process_time()
    report = flaxinit.forecast(model, *inputs, backward=True, particles=particles, **options)
    seconds = time.process_time() - start
    if isinstance(model, nn.Module):
        found = measured(model, *inputs, draws=draws, **options)
        alike = correlated(model, *inputs, draws=draws, **options)
    else:
        found, alike = audited(model, *inputs, draws=draws)
    layers = report.layers

    def of(field: str) -> dict[str, float | None]:
        return {layer.path: getattr(layer, field) for layer in layers}

    errors = {
        "forward": compared(of("signal_out"), found.signals),
        "backward": compared(of("gradient_parameter"), found.slopes),
        "positions": differing(of("positions"), alike.positions),
        "samples": differing(of("samples"), alike.samples),
    }
    normed = {layer.path for layer in layers if layer.normed}
    gradient = GRADIENT_OF.get(title, GRADIENT)

    def tolerance(way: str, path: str) -> float:
        if way == "forward":
            return NORMED if path in normed else OTHERS
        return gradient if way == "backward" else CORRELATION

    rough = {layer.path: layer.rough for layer in layers if layer.rough}
    out = [
        (way, path, *error)
        for way, table in errors.items()
        for path, error in table.items()
        if abs(error[0]) > max(tolerance(way, path), 3 * error[1])
        and not (way == "backward" and path in rough)
    ]
    draws_of = {
        layer.path: {"mean": layer.signal_out, "typical": layer.typical, "band": layer.band}
        for layer in layers
    }
    undetermined = {layer.path: layer.undetermined for layer in layers if layer.undetermined}
    return {
        "model": title,
        "seconds": seconds,
        **errors,
        "out of bounds": out,
        "normed": sorted(normed),
        "rough": rough,
        "undetermined": undetermined,
        "draws": draws_of,
    }


def swept(title: str, width: int, draws: int) -> dict:
    """Return the root mean square of one model's errors at one width, and of their standard errors.

    Forward of all kernels; backward of the rough ones.
    """
    model, inputs, options = linen(width)[title]
    report = flaxinit.forecast(model, *inputs, backward=True, particles=_PARTICLES, **options)
    found = measured(model, *inputs, draws=draws, **options)
    signals = {layer.path: layer.signal_out for layer in report.layers}
    slopes = {layer.path: layer.gradient_parameter for layer in report.layers if layer.rough}
    tables = {
        "forward": compared(signals, found.signals),
        "backward": compared(slopes, found.slopes),
    }
    return {
        "model": title,
        "width": width,
        "draws": draws,
        **tables,
        **{
            f"{way}, root mean square": np.sqrt(np.mean(np.square([*table.values()]), 0)).tolist()
            for way, table in tables.items()
        },
    }


def sweep(draws: int) -> Iterator[dict]:
    """Measure the models with rough gradients at several widths; narrow ones are drawn oftener."""
    for title, widths in SWEPT.items():
        for width in widths:
            found = swept(title, width, draws * max(1, widths[-1] // width // 2))
            each = {way: found[f"{way}, root mean square"] for way in ("forward", "backward")}
            cells = "  ".join(f"{way} {a:6.1%} ± {b:.1%}" for way, (a, b) in each.items())
            print(f"{title:20} {width:5} {cells}", flush=True)
            yield found


def plot_sweep(rows: list[dict], title: str):
    """Draw the errors against the width, with their standard errors as what chance leaves."""
    figure, axes = panels(title, 2, width=5.2, height=3.8, sharey=True)
    for axis, way in zip(axes, ("forward", "backward"), strict=True):
        for color, name_of in zip(COLORS, SWEPT, strict=False):
            own = [each for each in rows if each["model"] == name_of]
            widths = [each["width"] for each in own]
            errors, chance = zip(*(each[f"{way}, root mean square"] for each in own), strict=True)
            axis.plot(widths, errors, "o-", color=color, ms=4, lw=1.2, label=name_of)
            axis.plot(widths, chance, ":", color=color, lw=1)
        axis.set(xscale="log", xlabel="width", title=way)
        axis.set_xticks([64, 128, 256, 512, 1024], ["64", "128", "256", "512", "1024"])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel("error of the forecast, root mean square")
    axes[0].legend(fontsize=8)
    return figure


def text(found: dict) -> str:
    """Return some lines of the table."""
    parts = [f"{found['model']:20} {found['seconds']:5.1f} s"]
    for way in ("forward", "backward", "positions", "samples"):
        if not (kernels := found[way]):
            continue
        errors = np.abs([error for error, _ in kernels.values()])
        worst = max(kernels, key=lambda path: abs(kernels[path][0]))
        chance = np.median([error for _, error in kernels.values()])
        parts.append(
            f"{way:9} median {np.median(errors):6.1%}, largest {errors.max():6.1%} "
            f"(± {kernels[worst][1]:.1%}, {worst.removeprefix('params/')}"
            f"{', rough' if way == 'backward' and worst in found['rough'] else ''}); ± {chance:.1%}"
        )
    for way, path, error, chance in found["out of bounds"]:
        parts.append(f"out of bounds: {way} {path} {error:+.1%} ± {chance:.1%}")
    return "\n    ".join(parts)


def plot(rows: list[dict], title: str):
    """Draw an error bar for each kernel, grouped by model; rough ones are hollow."""
    height = 0.36 * len(rows) + 1.5
    figure, axes = panels(title, 4, width=5.2, height=height, columns=2, sharey=True)
    labels = {"positions": "correlation of positions", "samples": "correlation of samples"}
    for axis, way in zip(axes, ("forward", "backward", "positions", "samples"), strict=True):
        for place, found in enumerate(reversed(rows)):
            values = list(found[way].items())
            spots = place + np.linspace(-0.3, 0.3, len(values)) if len(values) > 1 else [place]
            for spot, (path, (error, chance)) in zip(spots, values, strict=False):
                rough = way == "backward" and path in found["rough"]
                axis.errorbar(
                    100 * error, spot, xerr=300 * chance, fmt="o", ms=3, lw=0.6,
                    color=COLORS[4], mfc="white" if rough else COLORS[4],
                )  # fmt: skip
        axis.axvline(0, color="black", lw=0.8)
        axis.set_yticks(range(len(rows)), [found["model"] for found in reversed(rows)])
        unit = "error of the forecast, %" if way not in labels else "difference, 0.01"
        axis.set(xlabel=f"{unit}, ± 3 standard errors", title=labels.get(way, way))
        axis.grid(axis="x", alpha=0.3)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--draws", type=int, default=32)
    parser.add_argument("--only", help="models with these words in their names; nothing is written")
    parser.add_argument("--sweep", action="store_true", help="rough gradients by width")
    options = parser.parse_args()
    with jax.numpy_dtype_promotion("standard"):  # Flax's pooling divides by an integer
        if options.sweep:
            rows = []
            for found in sweep(options.draws):  # hours: what is measured is written
                rows.append({**found, "environment": environment()})
                write("forecast_widths", {"rows": rows})
            title = "forecast against draws, by width (dotted: standard errors)"
            save(plot_sweep(rows, title), RESULTS / "forecast_widths.png")
            return
        rows, models = [], {**linen(options.width), **modules(options.width)}
        for title, (model, inputs, keywords) in models.items():
            if options.only is None or options.only in title:
                found = row(title, model, inputs, keywords, options.draws)
                print(text(found), flush=True)
                rows.append({**found, "environment": environment()})
    if options.only is None:
        settings = {"width": options.width, "draws": options.draws}
        write("forecast", {**settings, "rows": rows})
        title = f"forecast against {options.draws} draws at width {options.width}"
        save(plot(rows, title), RESULTS / "forecast.png")


def write(name_of: str, found: dict) -> None:
    (RESULTS / f"{name_of}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
