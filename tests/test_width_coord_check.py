"""coord_check() sees where training depends on the width, and that with mup() it does not."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flaxinit
from flaxinit.width.coordinates import coordinate
from tests import width_models as models
from tests.test_width_mup import mlp

WIDTHS = (64, 256, 1024)
FIRST, HIDDEN, LAST = (f"params/layers_{n}/kernel" for n in (0, 2, 4))


@pytest.fixture(autouse=True)
def promotion():
    """Optax's own optimizers need JAX's default."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def checked(optimizer, learning_rate, widths=WIDTHS, **options):
    inputs = jax.random.normal(jax.random.key(5), (16, 8))
    options = {"optimizer": optimizer, "learning_rate": learning_rate} | options
    return flaxinit.coord_check(mlp, widths, inputs, **options)


def findings(report, step):
    return {each.name: each.finding for each in report.coordinates if each.step == step}


@pytest.mark.parametrize(
    ("optimizer", "rate"), [(optax.adam, 0.01), (optax.sgd, 0.1), (optax.lion, 0.002)]
)
def test_with_mup_no_change_depends_on_the_width(optimizer, rate):
    """The update of each pre-activation is the same at 16 times the width, after 2 steps and 10."""
    report = checked(optimizer, rate, zero=[LAST])
    for step in (2, 10):
        assert set(findings(report, step)) == {FIRST, HIDDEN, LAST}
    report.check()
    assert np.mean(report.losses[:, :, -1]) < np.mean(report.losses[:, :, 0])


CONTROLS = {
    "adam": (optax.adam, 0.01, {"draws": False, "rates": False}, {HIDDEN: 0.4, LAST: 0.4}),
    "sgd": (optax.sgd, 0.1, {"draws": False, "rates": False}, {HIDDEN: 0.25, LAST: 0.4}),
    "right draws, wrong rates": (optax.adam, 0.01, {"rates": False}, {HIDDEN: 0.4, LAST: 0.4}),
    "wrong draws, right rates": (optax.sgd, 0.1, {"draws": False}, {HIDDEN: 0.25}),
}


@pytest.mark.parametrize("name", CONTROLS)
def test_without_it_layers_grow(name):
    """Negative controls: after one step the slopes are those of the theory, or more."""
    optimizer, rate, options, growing = CONTROLS[name]
    report = checked(optimizer, rate, steps=(1,), **options)
    slopes = {each.name: each.slope for each in report.coordinates}
    for layer, least in growing.items():
        assert findings(report, 1)[layer] == "grows"
        assert slopes[layer] > least
    with pytest.raises(ValueError, match=r"Training depends on the width, or may: .* grows, slope"):
        report.check()


@pytest.mark.slow
def test_muon_without_it_moves_the_logits_alone():
    muon = optax.contrib.muon, 0.01, (32, 128, 512)  # five products for each kernel and step
    report = checked(*muon, draws=False, rates=False, steps=(2,))
    assert findings(report, 2) == {FIRST: "steady", HIDDEN: "steady", LAST: "grows"}
    checked(*muon, zero=[LAST], steps=(2,)).check()


# Three decoders are compiled with their gradients.
@pytest.mark.slow
def test_a_decoder_with_more_heads_is_steady():
    tokens = jax.random.randint(jax.random.key(0), (2, 6), 0, 50)
    report = flaxinit.coord_check(
        lambda width: models.Decoder(width, **models.heads(width)),
        (32, 64, 128),
        tokens,
        optimizer=optax.adam,
        learning_rate=0.01,
        targets=jnp.roll(tokens, -1, 1),
        zero=["*/last/kernel", "*/query/kernel"],
        steps=(2,),
        seeds=5,
    )
    growing = [each for each in report.coordinates if each.finding in ("grows", "shrinks")]
    assert not growing, report
    names = {each.name for each in report.coordinates}
    assert {"params/query/kernel", "product 1 of signals", "params/last/kernel"} <= names


def test_what_the_model_multiplies_is_measured_relative_to_that():
    """√d behind a layer: its kernel is trained smaller, and what it makes is as steady."""

    def make(width):
        times = np.float32(np.sqrt(width))
        layers = mlp(width).layers
        return nn.Sequential([*layers[:2], layers[2], lambda x: x * times, *layers[3:]])

    report = flaxinit.coord_check(
        make,
        WIDTHS,
        jax.random.normal(jax.random.key(5), (16, 8)),
        optimizer=optax.adam,
        learning_rate=1e-3,
        steps=(2,),
        zero=["*layers_5/kernel"],
    )
    found = {each.name: each.finding for each in report.coordinates}
    assert found["params/layers_2/kernel"] == "steady", report


def test_steps_of_a_loop_are_layers_each():
    report = flaxinit.coord_check(
        models.Scanned,
        (16, 32),
        jnp.ones((4, 8)),
        optimizer=optax.sgd,
        learning_rate=0.1,
        steps=(1,),
        seeds=5,
    )
    names = [each.name for each in report.coordinates]
    assert "params/blocks/in/kernel" in names and "params/blocks/in/kernel[2]" in names


def test_what_does_not_move_has_no_slope():
    report = checked(optax.sgd, 0.0, steps=(1,))
    assert set(findings(report, 1).values()) == {"did not move"}
    assert all(np.isnan(each.slope) for each in report.coordinates)
    with pytest.raises(ValueError, match="nothing moved: raise the learning rate"):
        report.check()


def test_a_width_that_is_not_finite_is_named():
    report = checked(optax.sgd, 1e30, steps=(3,))
    assert any("not finite at width 64" in text for text in report.findings)
    with pytest.raises(ValueError, match="not finite"):
        report.check()


def test_a_verdict_needs_the_whole_interval():
    widths, rng = np.array([32, 64, 128]), np.random.default_rng(0)
    for slope, spread, finding in (
        (0.0, 1e-3, "steady"),
        (0.5, 1e-3, "grows"),
        (-0.5, 1e-3, "shrinks"),
        (0.0, 3.0, "undetermined"),
    ):
        changes = widths**slope * np.exp(spread * rng.standard_normal((5, 3)))
        found = coordinate("w", 1, widths, changes, changes, 0.1)
        assert found.finding == finding
        assert found.low < found.slope < found.high


def test_an_interval_holds_the_slope_as_often_as_it_says():
    """Of 2000 intervals at 95 %, within 4 standard deviations of that share."""
    widths, rng = np.array([32, 64, 128]), np.random.default_rng(0)
    changes = widths**0.3 * np.exp(0.2 * rng.standard_normal((2000, 5, 3)))
    found = [coordinate("w", 1, widths, each, each, 0.1) for each in changes]
    held = np.mean([each.low < 0.3 < each.high for each in found])
    assert abs(held - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 2000)


@pytest.mark.slow
def test_it_prints_and_draws(tmp_path):
    report = checked(optax.sgd, 0.1, steps=(1,))
    found = findings(report, 1).values()
    for text in ("8 seeds", "learning rate 0.1", HIDDEN, "slope", *found):
        assert text in str(report)
    report.plot(str(tmp_path / "check.png"))
    assert (tmp_path / "check.png").stat().st_size > 1000


def test_what_cannot_be_checked_is_refused():
    with pytest.raises(ValueError, match="at least 5 seeds; received 2"):
        checked(optax.sgd, 0.1, seeds=2)
    with pytest.raises(ValueError, match=r"no parameter fits 'head'"):
        checked(optax.sgd, 0.1, zero=["head"])
    with pytest.raises(ValueError, match="must be arrays, not shapes"):
        flaxinit.coord_check(mlp, WIDTHS, models.FEATURES, optimizer=optax.sgd, learning_rate=0.1)
    with pytest.raises(ValueError, match=r"at least two that rise; received \[32, 32\]"):
        flaxinit.coord_check(
            mlp, (32, 32), jnp.ones((4, 8)), optimizer=optax.sgd, learning_rate=0.1
        )
    with pytest.raises(ValueError, match="from 1 on"):
        checked(optax.sgd, 0.1, steps=(0, 1))
