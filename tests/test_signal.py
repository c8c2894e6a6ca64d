"""audit() measures what theory forecasts, in Linen, NNX and hand-written models."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import flaxinit


class Deep(nn.Module):
    scale: float = 1.0

    @nn.compact
    def __call__(self, x):
        for n in range(10):
            init = flaxinit.lecun() if n == 0 else flaxinit.he("tanh").times(self.scale)
            x = nn.Dense(512, kernel_init=init, use_bias=False)(x if n == 0 else jnp.tanh(x))
        return x


def x(*shape):
    return jax.random.normal(jax.random.key(0), shape)


def audit(model, *inputs):
    return flaxinit.audit(model.apply, model.init(jax.random.key(1), *inputs), *inputs)


def spread(layer, batch):
    """Four standard deviations of E[y²]/forecast: y given x is normal, batch rows share W."""
    return 4 * np.sqrt(2 / layer.shape[-1] + 2 / (batch * layer.shape[-1]))


def test_the_forecast_is_what_is_measured():
    report = audit(Deep(), x(64, 512))
    assert [layer.path for layer in report.layers] == [
        f"params/Dense_{n}/kernel" for n in range(10)
    ]
    for layer in report.layers:
        assert abs(layer.signal_out / layer.forecast - 1) < spread(layer, 64)
    assert 0.5 < report.growth < 2


def test_a_wrong_gain_shows():
    assert audit(Deep(scale=0.5), x(64, 512)).growth < 0.1


def test_convolution_attention_and_nnx():
    conv = audit(nn.Conv(64, (3, 3), padding="VALID", use_bias=False), x(8, 12, 12, 16)).layers
    assert [(layer.shape, layer.fan_in) for layer in conv] == [((3, 3, 16, 64), 144)]
    attention = audit(nn.MultiHeadDotProductAttention(4), x(2, 5, 32)).layers
    assert [layer.path.split("/")[1] for layer in attention] == ["query", "key", "value", "out"]
    assert {layer.fan_in for layer in attention} == {32}
    graph, state = nnx.split(nnx.Linear(16, 8, rngs=nnx.Rngs(0)))
    report = flaxinit.audit(lambda s, v: nnx.merge(graph, s)(v), state, x(4, 16))
    assert [layer.shape for layer in report.layers] == [(16, 8)]


def test_it_prints(capsys):
    from rich.console import Console

    Console().print(audit(Deep(), x(4, 512)))
    assert "params/Dense_9/kernel" in capsys.readouterr().out


def test_no_kernel_is_an_error():
    with pytest.raises(ValueError, match="no kernel at work"):
        flaxinit.audit(lambda p, v: p["scale"] * v, {"scale": jnp.ones(3)}, x(2, 3))
