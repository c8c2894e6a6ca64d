"""A new activation that no table lists: from its formula to its gain to a trained network."""

import jax
import jax.numpy as jnp

import flaxinit
from benchmarks.experiments import Experiment
from benchmarks.model import ACTIVATIONS
from benchmarks.techniques import TECHNIQUES, Technique
from benchmarks.units import Classifier


def ripple(x):
    """Return relu(x) + x exp(-x²/2)."""
    return jax.nn.relu(x) + x * jnp.exp(-(x**2) / 2)


ACTIVATIONS["ripple"] = ripple
TECHNIQUES["derived here"] = Technique.following(
    "Derived gain", lambda name: flaxinit.he(ACTIVATIONS[name])
)


def units(size: str) -> list[Classifier]:
    width, steps, seeds = {"smoke": (16, 40, 2), "laptop": (64, 320, 4), "pod": (512, 2000, 64)}[
        size
    ]
    compared = {"techniques": ("xavier", "he", "derived here"), "seeds": tuple(range(seeds))}
    rates = (0.00025, 0.001, 0.004, 0.016)
    network = {"activation": "ripple", "depth": 20, "width": width}
    return [Classifier(**compared, **network, learning_rates=rates, steps=steps)]


EXPERIMENT = Experiment("Does a gain derived from its formula train a new activation?", units)
