"""Gradients by layer, at the start and during training, against the mean-field prediction.

From one layer to the layer before it, the squared gradient of the pre-activations grows by
χ = σ_w² E[φ'(√q z)²], where q is the variance of the pre-activations.

References: Schoenholz et al. (2017).
"""

import numpy as np

import flaxinit
from benchmarks import harness
from benchmarks.experiments import Experiment
from benchmarks.techniques import TECHNIQUES
from benchmarks.units import Classifier
from benchmarks.view import CONFIDENCE, Outcome, View, briefly, estimate, interval, look, panels


def units(size: str) -> list[Classifier]:
    width, depth, steps, seeds = {
        "smoke": (32, 8, 20, 2),
        "laptop": (256, 30, 200, 4),
        "pod": (2048, 100, 2000, 32),
    }[size]
    return [
        Classifier(
            activation=activation,
            techniques=("xavier", "he", "derived", "backward", "critical"),
            learning_rates=(0.02 / depth,),
            seeds=tuple(range(seeds)),
            depth=depth,
            width=width,
            steps=steps,
            probes=(0, steps // 2, steps),
        )
        for activation in (("tanh",) if size == "smoke" else ("relu", "tanh", "gelu"))
    ]


def measure(unit: Classifier, tick) -> dict:
    """Train, and record the theory's prediction beside the measurements."""
    return {
        **harness.train(unit, tick),
        "predicted": {technique: predicted(unit, technique) for technique in unit.techniques},
    }


def predicted(unit: Classifier, technique: str) -> dict[str, list[float]]:
    """Predict χ of each hidden layer, and the variance q of the pre-activations it reads."""
    derivation = flaxinit.derive(unit.activation)
    network, square = unit.network(technique), (unit.width, unit.width)
    fan_in = unit.dataset.train_inputs.shape[1]
    sigma_w2 = unit.width * network.hidden_init.variance(square)
    sigma_b2 = TECHNIQUES[technique].bias(unit.activation)
    sigma_b2 = sigma_b2.variance(()) if hasattr(sigma_b2, "variance") else 0.0
    q = fan_in * network.first_init.variance((fan_in, unit.width)) + sigma_b2
    qs, chis = [], []
    for _ in range(unit.depth - 2):
        qs.append(q)
        chis.append(derivation.maps.chi(q, sigma_w2))
        q = derivation.maps.qmap(q, sigma_w2, sigma_b2)
    return {"q": qs, "chi": chis}


def profiles(record: dict, technique: str, probe: int) -> np.ndarray:
    """Return each layer's gradient over the last hidden layer's (seeds, layers)."""
    runs = [run for run in record["runs"] if run["technique"] == technique]
    gradients = np.array([run["probes"][probe]["gradient"][:-1] for run in runs], float)
    last = gradients[:, -1:]
    return np.divide(gradients, last, out=np.full_like(gradients, np.nan), where=last != 0)


def theory(record: dict, technique: str) -> np.ndarray:
    """Predict `profiles` at the start, for a network of infinite width."""
    chi = np.array(record["predicted"][technique]["chi"])
    return np.append(np.sqrt(np.cumprod(chi[::-1]))[::-1], 1.0)


def growth(profile: np.ndarray) -> np.ndarray:
    """Return χ: the geometric mean of the squared gradient's growth per layer, backward."""
    return (profile[..., 0] / profile[..., -1]) ** (2 / (profile.shape[-1] - 1))


def outcomes(records: list[dict]) -> list[Outcome]:
    """Say which techniques keep gradients within a factor of 10, and how far χ is from theory."""
    found = []
    for record in records:
        techniques = record["unit"]["techniques"]
        start = {t: profiles(record, t, 0) for t in techniques}
        steady = [t for t in techniques if 0.1 <= np.median(start[t][:, 0]) <= 10]
        errors = [
            abs(np.median(growth(start[t])) / growth(theory(record, t)) - 1) for t in techniques
        ]
        known = [float(error) for error in errors if np.isfinite(error)]
        margin = f"gradients within a factor of 10 over {record['unit']['depth']} layers"
        if known:
            margin += f"; measured χ within {max(known):.1%} of the theory's"
        if lost := len(errors) - len(known):
            margin += f", not finite for {lost} of {len(errors)} techniques"
        titles = ([TECHNIQUES[t].title for t in some] for some in (steady, techniques))
        found.append(Outcome(record["unit"]["activation"], briefly(*titles), margin))
    return found


def table(records: list[dict]) -> list[list[str]]:
    steps = records[0]["unit"]["probes"]
    cells = [
        [
            "activation",
            "technique",
            "χ predicted at the start",
            *(f"χ measured, step {step}" for step in steps),
        ]
    ]
    for record in records:
        for technique in record["unit"]["techniques"]:
            measured = [
                _four(growth(profiles(record, technique, probe))) for probe in range(len(steps))
            ]
            predicted = f"{growth(theory(record, technique)):.4f}"
            title = TECHNIQUES[technique].title
            cells.append([record["unit"]["activation"], title, predicted, *measured])
    return cells


def _four(values: np.ndarray) -> str:
    """Return an estimate with four decimals, because χ differs from 1 in the second."""
    if not np.isfinite(values).all():
        return estimate(values)
    low, high = interval(values)
    return f"{np.median(values):.4f} ({low:.4f}–{high:.4f})"


def plot(records: list[dict], title: str):
    """Plot the gradient by layer: measured at the start and the end, predicted in black."""
    figure, axes = panels(title, len(records), width=5, height=4.8, sharey=True)
    for axis, record in zip(axes, records, strict=True):
        layers = np.arange(1, record["unit"]["depth"])
        for index, technique in enumerate(record["unit"]["techniques"]):
            style, title = look(index), TECHNIQUES[technique].title
            start, end = (np.median(profiles(record, technique, i), axis=0) for i in (0, -1))
            axis.plot(layers, start, ms=4, label=title, **style | {"linestyle": ""})
            axis.plot(layers, end, color=style["color"], lw=1.2)
            axis.plot(layers, theory(record, technique), color="black", lw=0.8, ls="--")
        axis.set(yscale="log", title=record["unit"]["activation"], xlabel="layer")
    last = axes[len(records) // 2]
    last.plot([], [], color="black", lw=0.8, ls="--", label="theory, at the start")
    last.plot([], [], color="gray", lw=1.2, label=f"after {records[0]['unit']['steps']} steps")
    last.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False, ncols=3, fontsize=9)
    axes[0].set_ylabel("gradient / that of the last hidden layer")
    return figure


def caption(records: list[dict]) -> str:
    unit = records[0]["unit"]
    return (
        "Here χ is the factor by which the squared gradient of the pre-activations grows from a "
        "layer to the one before, as a geometric mean over the hidden layers. "
        f"Median ({CONFIDENCE:.0%} bootstrap interval) over {len(unit['seeds'])} seeds, width "
        f"{unit['width']}. Optimizer {unit['optimizer']}, learning rate "
        f"{unit['learning_rates'][0]:.2g}"
    )


EXPERIMENT = Experiment(
    "Does initialization cure vanishing and exploding gradients, as the theory says?",
    units,
    View(outcomes, table, plot, caption),
    measure,
)
