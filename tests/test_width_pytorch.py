"""mup() against Microsoft's `mup` for PyTorch, whose factors are in a file beside this one."""

import json
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import flaxinit
from tests import width_models as models
from tests.test_width_mup import decoder, mlp
from tests.width_models import FEATURES, IMAGES, NORMAL, TOKENS

FOUND = json.loads(Path(__file__).with_name("mup_for_pytorch.json").read_text())
BASE, WIDTH = FOUND["widths"]
MLP = {"first": "layers_0", "hidden": "layers_2", "last": "layers_4"}


def ours(make, inputs):
    """By path, the factors on the draw and on the rates of Adam and SGD."""
    adam, sgd = (
        flaxinit.mup(make(WIDTH), inputs, base=make(BASE), optimizer=optimizer).rows
        for optimizer in ("adam", "sgd")
    )
    return {a.path: (a.init, a.rate, b.rate) for a, b in zip(adam, sgd, strict=True)}


def theirs(network):
    """The same of theirs, with the factor in front of a readout c moved into it (W = c w)."""
    found = {}
    for name, each in FOUND["networks"][network].items():
        c = each.get("multiplier", 1.0)
        found[name] = (c * each["deviation"], c * each["adam"], c**2 * each["sgd"])
    return found


def path(network, name):
    layer, _, kind = name.partition(".")
    layer = MLP[layer] if network == "mlp" else layer
    if layer == "norm":
        return "params/RMSNorm_0/scale"
    kind = {"weight": "embedding" if layer == "embed" else "kernel"}.get(kind, kind)
    return f"params/{layer}/{kind}"


@pytest.mark.parametrize(
    ("network", "make", "inputs"),
    [
        ("mlp", lambda width: mlp(width, NORMAL), FEATURES),
        ("decoder", decoder(models.heads), TOKENS),
        ("tied decoder", decoder(models.heads, tied=True), TOKENS),
    ],
    ids=["mlp", "decoder", "tied decoder"],
)
def test_factors_are_those_of_mup_for_pytorch(network, make, inputs):
    """After the equivalence of tables 3 and 8. Biases are zero, so their draw has no factor."""
    found, compared = ours(make, inputs), set()
    for name, wanted in theirs(network).items():
        if name == "norm.bias":  # of a layer norm; these models have none
            continue
        row = found[path(network, name)]
        compared.add(path(network, name))
        if name.endswith("weight") and "norm" not in name:
            assert row == pytest.approx(wanted, rel=1e-6), name
        else:
            assert row[1:] == wanted[1:], name
    left = {name for name in found if name not in compared}
    assert left <= {"params/positions", "params/RMSNorm_1/scale", "params/RMSNorm_2/scale"}


def test_where_it_is_known_to_differ():
    """A tied embedding is drawn √m times as large there, and axes are told by their place."""
    m = WIDTH / BASE
    assert FOUND["networks"]["tied decoder"]["embed.weight"]["rescaled"] == m**0.5
    assert ours(decoder(models.heads, tied=True), TOKENS)["params/embed/embedding"][0] == 1

    def classes(width):
        last = nn.Conv(10, (1, 1), kernel_init=NORMAL)
        return nn.Sequential([nn.Conv(width, (3, 3)), nn.relu, last])

    found = ours(classes, IMAGES)["params/layers_2/kernel"]
    assert found == pytest.approx((1 / m, 1 / m, 1 / m))
    assert theirs("convolution to classes")["classes.weight"] == (1, 1, m)  # an input's

    def experts(width):
        hidden = 2 * width * width // BASE

        def init(key, x):
            one, two = jax.random.split(key)
            first = jax.random.normal(one, (8, width))
            return {"first": first, "up": 0.02 * jax.random.normal(two, (3, width, hidden))}

        return init, lambda params, x: jnp.einsum("bd,edf->bef", x @ params["first"], params["up"])

    # It sums over d, which grows by m, and makes m² times as many.
    assert ours(experts, FEATURES)["up"] == pytest.approx((m**-0.5, 1 / m, m))
    assert theirs("experts")["up"] == (1 / m, 1 / m**2, 1 / m)
