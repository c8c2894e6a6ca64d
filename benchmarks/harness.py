"""The training loop: every network of one architecture in one compiled program.

Techniques, gains, learning rates and seeds differ only in numbers, so they are batch dimensions.
Arrays are (seeds, variants, ...), where a variant is a technique × gain × learning rate. The seeds
are spread over all devices along a mesh axis. The steps of a window are one `jax.lax.scan`, in
which no device waits for another. After each window the host reports progress.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from benchmarks.units import OPTIMIZERS, Unit

SEEDS, ALIKE = PartitionSpec("seed"), PartitionSpec()


def train(unit: Unit, tick: Callable[[float], Any] = lambda share: None) -> dict:
    """Train every network of a unit.

    Args:
        unit: what to train.
        tick: called after each window with the share of the unit's steps in it.

    Returns:
        The record: the unit, the scores of guessing, seconds, and one entry per run. None stands
        for a number that is not finite.
    """
    began = time.perf_counter()
    variants = list(product(unit.techniques, unit.gains, unit.learning_rates))
    keys = seed_keys(unit)
    rates = np.array([rate for _, _, rate in variants], "float32")
    state = draw(unit, keys)
    optimizer = OPTIMIZERS[unit.optimizer]
    state = state, over_runs(lambda params, *_: optimizer(0.0).init(params))(state, keys, rates)
    advance = over_runs(_window(unit, optimizer), donate_argnums=0)
    look, evaluate = (
        over_runs(lambda state, *_, score=score: score(state[0]))
        for score in (unit.probe, unit.evaluate)
    )

    curves, seen = [], []
    for step in range(0, unit.steps + 1, unit.window):
        if step in unit.probes:
            seen.append(fetch(look(state, keys, rates)))
        if step < unit.steps:
            state, curve = advance(state, keys, rates, np.int32(step))
            curves.append(fetch(curve))
            tick(unit.window / unit.steps)
    final = fetch(evaluate(state, keys, rates))

    def record(variant: int, seed: int) -> dict:
        technique, gain, rate = variants[variant]
        return {
            "technique": technique,
            "gain": gain,
            "learning_rate": rate,
            "seed": unit.seeds[seed],
            **{name: rounded([c[name][seed, variant] for c in curves]) for name in curves[0]},
            **{name: rounded(score[seed, variant]) for name, score in final.items()},
            "probes": [
                {name: rounded(value[seed, variant]) for name, value in probe.items()}
                for probe in seen
            ],
        }

    return {
        "unit": asdict(unit),
        **unit.guess(),
        "seconds": round(time.perf_counter() - began, 2),
        "runs": [
            record(variant, seed)
            for variant in range(len(variants))
            for seed in range(len(unit.seeds))
        ],
    }


def devices() -> list[Any]:
    """Return the devices that train: all there are, in all processes."""
    return jax.devices()


def mesh() -> Mesh:
    """Return a mesh of all devices in a row, with each process's devices side by side."""
    return Mesh(np.array(devices()), ("seed",), axis_types=(AxisType.Auto,))


def seed_keys(unit: Unit) -> jax.Array:
    """Make a key for each seed, and repeat the last until all devices have equally many."""
    seeds = np.array(unit.seeds)
    padding = -len(seeds) % len(devices())
    padded = np.append(seeds, seeds[-1:].repeat(padding))
    return jax.jit(jax.vmap(jax.random.key), out_shardings=NamedSharding(mesh(), SEEDS))(padded)


def over_runs(function: Callable, **options: Any) -> Callable:
    """Compile a function of one network, `function(state, key, rate, *shared)`, for all of them.

    Returns:
        A function of the state with leaves (seeds, variants, ...), a key for each seed and a
        learning rate for each variant; `shared` is the same for every network.
    """

    def on_a_device(state, keys, rates, *shared):
        shape = len(keys), len(rates)
        rows = (
            jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), state),
            jnp.repeat(keys, shape[1]),
            jnp.tile(rates, shape[0]),
        )
        if jax.default_backend() == "cpu":
            # A core computes one matrix product at a time anyway. One after the other, each network
            # stays in the core's cache, which gives 1.2 times the throughput of a batch. Its
            # numbers also do not depend on the number of networks on the device.
            results = jax.lax.map(lambda row: function(*row, *shared), rows)
        else:
            results = jax.vmap(lambda *row: function(*row, *shared))(*rows)
        return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), results)

    def program(state, keys, rates, *shared):
        specs = SEEDS, SEEDS, *(ALIKE for _ in (rates, *shared))
        # Devices exchange nothing, so there is nothing to check; JAX 0.12 cannot check erfc.
        return jax.shard_map(
            on_a_device, mesh=mesh(), in_specs=specs, out_specs=SEEDS, check_vma=False
        )(state, keys, rates, *shared)

    return jax.jit(program, **options)


def draw(unit: Unit, keys: jax.Array):
    """Draw the parameters (seeds, variants, ...); each process draws those of its devices.

    The same program draws one network at a time, wherever the network is trained. A batch would be
    compiled differently for each size, and its last bits would differ.
    """
    # Runs once per seed. On a CPU, full optimization would make compilation 1.5 times as slow.
    options = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
    inits = [jax.jit(unit.init(name), compiler_options=options) for name in unit.techniques]

    def network(key):
        """Draw the parameters of one seed (variants, ...)."""
        return jax.tree_util.tree_map_with_path(variants, *(init(key) for init in inits))

    def variants(path, *leaves):
        gains = unit.gains if path[-1].key == "kernel" else [1.0] * len(unit.gains)
        scaled = [leaf * np.asarray(gain, leaf.dtype) for leaf in leaves for gain in gains]
        return np.repeat(np.stack(scaled), len(unit.learning_rates), axis=0)

    def spread(*networks):
        return jax.make_array_from_process_local_data(keys.sharding, np.stack(networks))

    here = [key for shard in keys.addressable_shards for key in shard.data]
    return jax.tree.map(spread, *map(network, jax.device_get(here)))


def fetch(tree):
    """Return the whole arrays on the host, in every process."""
    return multihost_utils.process_allgather(tree, tiled=True)


def _window(unit: Unit, optimizer: Callable) -> Callable:
    """Return the function that makes a window of steps and returns their mean scores."""

    def advance(state, key, rate, first_step):
        def step(state, index):
            params, opt_state = state
            batch = unit.batch(jax.random.fold_in(key, index))
            (loss, accuracy), gradient = jax.value_and_grad(
                lambda params: unit.scores(params, *batch), has_aux=True
            )(params)
            # A float32 rate would promote the updates of bfloat16 parameters to float32.
            dtype = jax.tree.leaves(params)[0].dtype
            updates, opt_state = optimizer(rate.astype(dtype)).update(gradient, opt_state)
            return (optax.apply_updates(params, updates), opt_state), (loss, accuracy)

        state, scores = jax.lax.scan(step, state, first_step + jnp.arange(unit.window))
        return state, dict(zip(("loss", "accuracy"), (s.mean() for s in scores), strict=True))

    return advance


def rounded(values):
    """Round to five significant digits; return None for NaN and infinity, which JSON lacks."""
    if np.ndim(values):
        return [rounded(value) for value in values]
    return float(f"{values:.5g}") if np.isfinite(values) else None
