"""Statistics of a signal are the same whether NumPy or XLA computes them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flaxinit
from flaxinit.signal.measuring import moments as module
from flaxinit.signal.measuring.moments import moments

RNG = np.random.default_rng(0)
ARRAYS = {
    "normal": RNG.standard_normal((7, 30)).astype(np.float32),
    "large": RNG.standard_normal((7, 30)).astype(np.float32) * np.float32(1e30),
    "small": RNG.standard_normal((7, 30)).astype(np.float32) * np.float32(1e-30),
    "bfloat16": jnp.asarray(RNG.standard_normal((7, 30)), jnp.bfloat16),
    "float8_e4m3fn": jnp.asarray(RNG.standard_normal((7, 30)), jnp.float8_e4m3fn),
    "complex": (RNG.standard_normal((7, 30)) + 1j).astype(np.complex64),
    "zeros": np.zeros((7, 30), np.float32),
    "empty": np.zeros((0, 30), np.float32),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_moments_are_those_of_float64(name, monkeypatch):
    array = jnp.asarray(ARRAYS[name])
    wide = np.asarray(array).astype(np.complex128)
    for most in (module._SMALL, -1):  # by NumPy, by XLA
        monkeypatch.setattr(module, "_SMALL", most)
        with jax.numpy_dtype_promotion("standard"):  # as audit runs
            found = moments(array)
        square = np.mean(np.abs(wide) ** 2) if wide.size else 0.0
        mean = np.mean(wide.real) if wide.size else 0.0
        # Sums of 210 rounded terms.
        bound = 210 * float(jnp.finfo(jnp.float32).eps)
        assert found.square == pytest.approx(square, rel=bound)
        assert found.mean == pytest.approx(mean, abs=bound * np.sqrt(square))


def test_what_is_not_finite_stays_so(monkeypatch):
    for most in (module._SMALL, -1):
        monkeypatch.setattr(module, "_SMALL", most)
        assert moments(jnp.asarray([1.0, np.inf])).square == np.inf
        assert np.isnan(moments(jnp.asarray([1.0, np.nan])).square)


def test_large_arrays_are_measured_on_their_devices(monkeypatch):
    model = nn.Sequential([nn.Conv(8, (3, 3)), nn.relu, lambda x: x.reshape(4, -1), nn.Dense(40)])
    x = jax.random.normal(jax.random.key(0), (4, 6, 6, 3))
    params = model.init(jax.random.key(1), x)
    reports = []
    for most in (module._SMALL, -1):
        monkeypatch.setattr(module, "_SMALL", most)
        reports.append(flaxinit.audit(model.apply, params, x))
    host, device = ([layer.measured for layer in report.layers] for report in reports)
    assert len(host) == 2
    bound = 4 * 6 * 6 * 8 * float(jnp.finfo(jnp.float32).eps)  # sums of so many rounded terms
    for one, other in zip(host, device, strict=True):
        for name in ("signal_in", "signal_out", "expected", "spread", "alive", "gradient_out"):
            assert getattr(other, name) == pytest.approx(getattr(one, name), rel=bound), name
        for name in ("mean_in", "positions", "samples", "along"):
            known = getattr(one, name)
            assert getattr(other, name) == (
                None if known is None else pytest.approx(known, abs=1e-4)
            )
