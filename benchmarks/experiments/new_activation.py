"""A new activation that no table lists, from its formula to its gain to a trained network."""

import jax
import jax.numpy as jnp

import flaxinit
from benchmarks.experiments import Experiment
from benchmarks.harness import Unit
from benchmarks.model import ACTIVATIONS
from benchmarks.techniques import TECHNIQUES, Technique


def ripple(x):
    """`relu(x) + x exp(-x²/2)`"""
    return jax.nn.relu(x) + x * jnp.exp(-(x**2) / 2)


ACTIVATIONS["ripple"] = ripple
TECHNIQUES["derived here"] = Technique(
    "Derived gain", flaxinit.he("linear"), lambda name: flaxinit.he(ACTIVATIONS[name])
)


def units(size: str) -> list[Unit]:
    width, steps, seeds = {"smoke": (16, 40, 2), "laptop": (64, 320, 4), "pod": (512, 2000, 64)}[
        size
    ]
    techniques, rates = ("xavier", "he", "derived here"), (0.00025, 0.001, 0.004, 0.016)
    return [Unit("ripple", techniques, rates, tuple(range(seeds)), 20, width, steps)]


EXPERIMENT = Experiment("Does a gain derived from its formula train an unknown activation?", units)
