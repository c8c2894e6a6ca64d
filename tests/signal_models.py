"""Models as people write them, and what draws of them measure, for the tests of forecast()."""

import math

import flax.linen as nn
import jax
import numpy as np

import flaxinit

DRAWS = 32


def measured(model, *inputs, draws=DRAWS, **options):
    """For each kernel, in order of use, E[y²] of each draw of the parameters."""
    found: dict[str, list[float]] = {}
    init, apply = model
    for seed in range(draws):
        params = init(jax.random.key(seed), *inputs)
        for layer in flaxinit.audit(apply, params, *inputs, **options).layers:
            found.setdefault(layer.path, []).append(layer.signal_out)
    return {path: np.array(values) for path, values in found.items()}


def errors(report, draws):
    """By path: relative error of the forecast, and three standard errors of the measurement."""
    assert [layer.path for layer in report.layers] == list(draws)
    table = {}
    for layer in report.layers:
        values = draws[layer.path]
        mean = float(values.mean())
        error = float(values.std(ddof=1)) / math.sqrt(len(values))
        table[layer.path] = (layer.signal_out / mean - 1, 3 * error / mean)
    return table


def outside(report, draws, tolerance):
    """Kernels whose forecast is off by more than tolerance and than three standard errors."""
    return {
        path: error
        for path, (error, chance) in errors(report, draws).items()
        if abs(error) > max(tolerance, chance)
    }


class ResidualMLP(nn.Module):
    """h + W₂ relu(W₁ tanh(h)), a few times."""

    width: int = 256
    blocks: int = 4
    wrong: int = -1  # the block whose second kernel has a wrong gain

    @nn.compact
    def __call__(self, x):
        h = nn.Dense(self.width, kernel_init=flaxinit.lecun())(x)
        for n in range(self.blocks):
            factor = 0.5 if n == self.wrong else 1.0
            y = nn.Dense(self.width, kernel_init=flaxinit.he("tanh"))(nn.tanh(h))
            y = nn.Dense(self.width, kernel_init=flaxinit.he().times(factor))(nn.relu(y))
            h = h + y
        return nn.Dense(10, kernel_init=flaxinit.lecun())(h)
