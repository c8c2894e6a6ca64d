"""coord_check() on an MLP and a decoder, with mup() and without: how changes grow with the width.

    python -m benchmarks.coordinates [--seeds 16]

Each check trains a few steps at every width, and fits the slope of log change on log width for
every pre-activation, with a 95 % interval over seeds. Beside it stands whether the slope is what
the theory wants, and whether the whole interval is. Scores are measured behind what the model
divides them by.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import flaxinit
from benchmarks import data
from benchmarks.store import environment
from benchmarks.view import look, panels

RESULTS = Path(__file__).parent / "results"
STEADY, GROWS = (-0.1, 0.1), (0.4, np.inf)
SCORES = (-0.15, 0.15)
FIRST, HIDDEN, LAST = (f"params/layers_{n}/kernel" for n in (0, 2, 4))
DENSE = {"kernel_init": flaxinit.lecun()}


def mlp(width: int) -> nn.Module:
    dense = partial(nn.Dense, **DENSE)
    return nn.Sequential([dense(width), nn.relu, dense(width), nn.relu, dense(10)])


class Decoder(nn.Module):
    """Two blocks of attention and MLP with LayerNorm before each."""

    width: int
    heads: int
    blocks: int = 2

    @nn.compact
    def __call__(self, tokens):
        dense = partial(nn.Dense, **DENSE)
        x = nn.Embed(128, self.width, embedding_init=flaxinit.normal(1.0), name="embed")(tokens)
        causal = nn.make_causal_mask(tokens)
        for n in range(self.blocks):
            y = nn.LayerNorm()(x)
            split = (*y.shape[:-1], self.heads, -1)
            q, k, v = (dense(self.width, name=f"{s}{n}")(y).reshape(split) for s in ("q", "k", "v"))
            scores = jnp.einsum("btnd,bsnd->bnts", q, k) / np.sqrt(q.shape[-1]).astype(np.float32)
            weights = nn.softmax(jnp.where(causal, scores, -1e9))
            y = jnp.einsum("bnts,bsnd->btnd", weights, v).reshape(x.shape)
            x = x + dense(self.width, name=f"out{n}")(y)
            y = nn.gelu(dense(4 * self.width, name=f"up{n}")(nn.LayerNorm()(x)))
            x = x + dense(self.width, name=f"down{n}")(y)
        return dense(128, name="last")(nn.LayerNorm()(x))


MODELS: dict[str, Callable[[int], nn.Module]] = {
    "MLP": mlp,
    "decoder, heads of 16": lambda width: Decoder(width, width // 16),
    "decoder, 4 heads": lambda width: Decoder(width, 4),
}
OPTIMIZERS = {"adam": optax.adam, "sgd": optax.sgd, "muon": optax.contrib.muon}


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        title: of it.
        model: its name.
        optimizer: its name.
        learning_rate: at every width.
        wanted: pattern of pre-activations -> the lowest and the highest slope; the first that fits.
        steps: when to measure.
        widths: of the model.
        options: of `coord_check`.
    """

    title: str
    model: str
    optimizer: str
    learning_rate: float
    wanted: dict[str, tuple[float, float]]
    steps: tuple[int, ...] = (2, 10)
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    options: dict[str, Any] = field(default_factory=dict)


EVERY = {"*": STEADY}
STANDARD = {"draws": False, "rates": False}
DECODER = {"zero": ["*/last/kernel", "*/q?/kernel"]}
TO_512 = (64, 128, 256, 512)
CHECKS = (
    Check("zero readout", "MLP", "adam", 0.01, EVERY, options={"zero": [LAST]}),
    Check("zero readout", "MLP", "sgd", 0.1, EVERY, options={"zero": [LAST]}),
    Check("random readout", "MLP", "adam", 0.01, {FIRST: STEADY, HIDDEN: STEADY}),
    Check(
        "zero readout and queries", "decoder, heads of 16", "adam", 0.01,
        {"product*": SCORES, "*": STEADY}, widths=TO_512, options=DECODER,
    ),
    Check(
        "zero readout and queries", "decoder, 4 heads", "adam", 0.01,
        {"product*": SCORES, "*": STEADY}, widths=TO_512, options=DECODER,
    ),
    Check(
        "zero readout and queries, from 256", "decoder, 4 heads", "adam", 0.01,
        {"product*": SCORES, "*": STEADY}, (2,), (256, 512, 1024), options=DECODER,
    ),
    Check("standard", "MLP", "adam", 0.01, {HIDDEN: GROWS, LAST: GROWS}, (1,), options=STANDARD),
    Check("standard", "MLP", "sgd", 0.1, {LAST: GROWS}, (1,), options=STANDARD),
    Check(
        "standard", "MLP", "muon", 0.01, {HIDDEN: STEADY, LAST: (0.25, np.inf)}, (1,),
        (64, 128, 256, 512, 1024), STANDARD,
    ),
    Check(
        "right start, standard rates", "MLP", "adam", 0.01, {HIDDEN: GROWS, LAST: GROWS}, (1,),
        options={"rates": False},
    ),
    Check(
        "standard start, right rates", "MLP", "sgd", 0.1, {HIDDEN: (0.25, np.inf)}, (1,),
        options={"draws": False},
    ),
)  # fmt: skip


def inputs(model: str) -> tuple[jax.Array, jax.Array]:
    """Return inputs and targets: digits, or text and the characters after it."""
    if model == "MLP":
        digits = data.digits()
        return jnp.asarray(digits.train_inputs[:32]), jnp.asarray(digits.train_labels[:32])
    text = jnp.asarray(data.documentation().train[: 8 * 33].reshape(8, 33))
    return text[:, :-1], text[:, 1:]


def run(check: Check, seeds: int) -> dict:
    """Run one check; return the slopes beside what is wanted."""
    began = time.process_time()
    given, targets = inputs(check.model)
    report = flaxinit.coord_check(
        MODELS[check.model],
        check.widths,
        given,
        optimizer=OPTIMIZERS[check.optimizer],
        learning_rate=check.learning_rate,
        targets=targets,
        steps=check.steps,
        seeds=seeds,
        **check.options,
    )
    rows = []
    for each in report.coordinates:
        wanted = next((w for p, w in check.wanted.items() if fnmatch(each.name, p)), None)
        moved = bool(np.all(each.changes))
        row = {
            "name": each.name,
            "step": each.step,
            **{end: round(getattr(each, end), 4) if moved else None for end in _ENDS},
            "changes": [float(f"{x:.4g}") for x in np.exp(np.mean(np.log(each.changes), 0))]
            if moved
            else None,
        }
        if wanted and moved:
            low, high = wanted
            row["wanted"] = [low, high if high < np.inf else None]
            row["slope within"] = bool(low <= each.slope <= high)
            row["interval within"] = bool(low <= each.low and each.high <= high)
        rows.append(row)
    return {
        **{name: getattr(check, name) for name in _CONDITIONS},
        "loss": [round(float(np.mean(report.losses[..., n])), 4) for n in (0, -1)],
        "seconds": round(time.process_time() - began, 1),
        "rows": rows,
    }


_ENDS = ("slope", "low", "high")
_CONDITIONS = ("title", "model", "optimizer", "learning_rate", "widths", "options")


def heading(found: dict) -> str:
    return f"{found['model']}, {found['optimizer']}, {found['title']}"


def text(found: dict) -> str:
    """Return a table of one check."""
    lines = [f"{heading(found)} ({found['seconds']:.0f} s)"]
    for row in found["rows"]:
        slope = "did not move"
        if row["slope"] is not None:
            slope = f"{row['slope']:5.2f} [{row['low']:5.2f}, {row['high']:5.2f}]"
        verdict = ""
        if "wanted" in row:
            verdict = "as wanted" if row["slope within"] else "NOT as wanted"
            verdict += "" if row["interval within"] else ", the interval is wider"
        lines.append(f"    {row['step']:3} {row['name']:28} {slope}  {verdict}")
    return "\n".join(lines)


def plot(rows: list[dict], title: str):
    """Draw change against width after the last step, a panel for each check."""
    figure, axes = panels(title, len(rows), columns=3, sharey=False)
    for axis, found in zip(axes, rows, strict=True):
        last = max(row["step"] for row in found["rows"])
        lines = [row for row in found["rows"] if row["step"] == last and row["changes"]]
        for n, row in enumerate(lines):
            name = row["name"].removeprefix("params/").removesuffix("/kernel")
            axis.loglog(found["widths"], row["changes"], label=name, **look(n))
        axis.set(title=f"{heading(found)}, step {last}", xlabel="width")
        axis.set_xticks(found["widths"], [str(width) for width in found["widths"]])
        axis.minorticks_off()
        axis.legend(fontsize=5, frameon=False, ncols=2)
        axis.title.set_fontsize(8)
    axes[0].set_ylabel("change of a pre-activation")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=16)
    options = parser.parse_args()
    rows = []
    with jax.numpy_dtype_promotion("standard"):
        for check in CHECKS:
            rows.append(run(check, options.seeds))
            print(text(rows[-1]), flush=True)
    found = {"environment": environment(), "seeds": options.seeds, "rows": rows}
    (RESULTS / "coordinates.json").write_text(json.dumps(found, indent=1) + "\n")
    plot(rows, f"coord_check, {options.seeds} seeds").savefig(RESULTS / "coordinates.png", dpi=120)


if __name__ == "__main__":
    main()
