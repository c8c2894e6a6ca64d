"""The README's picture: the signal through 50 layers, by initialization.

    python -m benchmarks.depth [--activation gelu] [--width 1024] [--draws 8]

The signal of a layer is the mean square of its pre-activations, over a batch of unit Gaussian
inputs. Lines are medians over draws of the parameters, bands are the ranges of all draws, and dots
are the theory of infinitely wide layers.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import flaxinit
from benchmarks.model import ACTIVATIONS, MLP
from benchmarks.store import environment
from benchmarks.techniques import TECHNIQUES
from benchmarks.view import COLORS, panels

RESULTS = Path(__file__).parent / "results"
LAYERS, BATCH = 50, 128
_FONT = 13  # points; 10 pixels where 6.5 inches are shrunk to 360 pixels
# In float32 the first two draw what jax.nn.initializers' lecun_normal and he_normal draw.
LABELS = {
    "lecun": "lecun_normal, Flax's default",
    "he": "he_normal",
    "derived": 'flaxinit.he("{}")',
    "critical": 'flaxinit.critical("{}")',
}


def measured(technique: str, activation: str, width: int, draws: int) -> np.ndarray:
    """Return the signal of each layer, one row per draw."""
    first, hidden, bias = made(technique, activation)
    model = MLP(LAYERS + 1, width, 1, ACTIVATIONS[activation], first, hidden, bias)

    @jax.jit
    def signal(key):
        inputs, params = jax.random.split(key)
        x = jax.random.normal(inputs, (BATCH, width))
        layers, _ = model.init_with_output(params, x, layers=True)
        return jnp.mean(layers**2, axis=(1, 2))

    return np.array([signal(key) for key in jax.random.split(jax.random.key(0), draws)])


def theory(technique: str, activation: str) -> list[float]:
    """Return the signal of each layer if layers are infinitely wide."""
    first, hidden, bias = (scale(init) for init in made(technique, activation))
    qmap = flaxinit.derive(activation).maps.qmap
    signal = [first + bias]
    while len(signal) < LAYERS:
        signal.append(qmap(signal[-1], hidden, bias))
    return signal


def made(technique: str, activation: str) -> tuple:
    """Return the initializers of the first kernel, the other kernels and the biases."""
    way = TECHNIQUES[technique]
    return way.first(activation), way.hidden(activation), way.bias(activation)


def scale(init) -> float:
    """Return fan_in times the variance of a kernel, or the variance of a bias."""
    return 0.0 if init is jax.nn.initializers.zeros else init.variance((1, 1))


def plot(rows: list[dict], title: str):
    """Draw a line with its band and dots for each initialization; a small screen can show it."""
    figure, (axis,) = panels(title, 1, width=6.5, height=4.1)
    layers = np.arange(1, LAYERS + 1)
    colors = COLORS[3], COLORS[0], COLORS[4], COLORS[2]
    handles = []
    for row, color in zip(rows, colors, strict=True):
        axis.fill_between(layers, row["lowest"], row["highest"], color=color, alpha=0.25, lw=0)
        handles += axis.plot(layers, row["median"], color=color, lw=2.5, label=row["label"])
        axis.plot(layers[::4], row["theory"][::4], "o", color=color, ms=3)
    axis.set(yscale="log", xlim=(1, LAYERS))
    axis.set_xlabel("layer", fontsize=_FONT)
    axis.set_ylabel("mean square of the signal", fontsize=_FONT)
    axis.tick_params(labelsize=_FONT)
    handles.sort(key=lambda line: line.get_ydata()[-1], reverse=True)  # as they end
    axis.legend(handles=handles, fontsize=_FONT, loc="lower left")
    axis.grid(alpha=0.3)
    return figure


def main() -> None:
    """Draw, print the table, and write JSON and plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--activation", default="gelu", choices=sorted(ACTIVATIONS))
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--draws", type=int, default=8)
    options = parser.parse_args()
    rows = []
    for technique, label in LABELS.items():
        drawn = measured(technique, options.activation, options.width, options.draws)
        row = {
            "label": label.format(options.activation),
            "theory": theory(technique, options.activation),
            "median": np.median(drawn, 0).tolist(),
            "lowest": drawn.min(0).tolist(),
            "highest": drawn.max(0).tolist(),
        }
        rows.append(row)
        print(
            f"{row['label']:30} layer {LAYERS}: {row['lowest'][-1]:.1e} to "
            f"{row['highest'][-1]:.1e} in {options.draws} draws, {row['theory'][-1]:.1e} in theory",
            flush=True,
        )
    found = {"environment": environment(), **vars(options), "rows": rows}
    (RESULTS / "depth.json").write_text(json.dumps(found, indent=1) + "\n")
    title = (
        f"{LAYERS} layers with {options.activation}, width {options.width}. Lines: medians of "
        f"{options.draws} draws; bands: their range; dots: infinite width"
    )
    plot(rows, title).savefig(RESULTS / "depth.png", dpi=150)


if __name__ == "__main__":
    main()
