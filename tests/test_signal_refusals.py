"""What a model and its inputs must be for `audit` and `forecast`, and what they say if not."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import flaxinit
from flaxinit.signal.samples import limits


def x(*shape):
    return jax.random.normal(jax.random.key(0), shape)


def test_what_cannot_be_audited_is_refused_by_name():
    with pytest.raises(TypeError, match=r"audit\(module.apply, params, x\)"):
        flaxinit.audit(nn.Dense(3), {}, x(2, 3))
    with pytest.raises(TypeError, match="parameters and inputs"):
        flaxinit.audit(nn.Dense(3).apply)

    with pytest.raises(TypeError, match="the class Linear"):
        flaxinit.audit(nnx.Linear, x(2, 8))
    with pytest.raises(TypeError, match="received dict"):
        flaxinit.audit({}, nn.Dense(3).apply, x(2, 3))
    with pytest.raises(TypeError, match=r"flaxinit\.forecast"):
        flaxinit.audit(nn.Dense(3).apply, {}, jax.ShapeDtypeStruct((2, 3), jnp.float32))
    with pytest.raises(ValueError, match="holds only int8"):
        flaxinit.audit(lambda p, v: v @ p, jnp.ones((3, 4), jnp.int8), x(2, 3))
    with pytest.raises(ValueError, match="holds no arrays"):
        flaxinit.audit(lambda p, v: v, {}, x(2, 3))


class Encoder(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(8, 4, rngs=rngs)

    def encode(self, x, train=False):
        return self.linear(x)


def test_a_method_of_a_module_is_refused_with_what_to_pass():
    module, inputs = Encoder(nnx.Rngs(0)), x(2, 8)
    line = r"\(lambda module, x: module\.encode\(x\), module, x\)"
    for options in ({}, {"train": True}):
        with pytest.raises(TypeError, match=f"audit{line}"):
            flaxinit.audit(module.encode, inputs, **options)
    with pytest.raises(TypeError, match=f"calibrate{line}"):
        flaxinit.calibrate(module.encode, inputs)
    for given in (module, module.encode):
        with pytest.raises(TypeError, match=r"pass lambda rngs: Encoder\(\.\.\., rngs=rngs\)"):
            flaxinit.forecast(given, inputs)
    for function in (flaxinit.forecast, flaxinit.tune):
        with pytest.raises(TypeError, match="Dense's method init: pass the module itself"):
            function(nn.Dense(3).init, inputs)
    with pytest.raises(TypeError, match="returns the Linen module Dense"):
        flaxinit.forecast(lambda width: nn.Dense(3), inputs)
    with pytest.raises(TypeError, match=r"^base is a Linen module.*received 32\."):
        flaxinit.mup(nn.Dense(3), inputs, base=32)


def test_a_model_that_cannot_be_traced_says_what_audit_did():
    with pytest.raises(jax.errors.TracerBoolConversionError) as raised:
        flaxinit.audit(lambda p, v: v @ p if v[0, 0] > 0 else v, jnp.ones((3, 4)), x(2, 3))
    assert any("audit traced model" in note for note in raised.value.__notes__)


def test_a_model_that_cannot_be_traced_says_so_wherever_it_is_given():
    class Branching(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(x if x[0, 0] > 0 else -x)

    for call in (flaxinit.forecast, flaxinit.tune):
        with pytest.raises(jax.errors.TracerBoolConversionError) as raised:
            call(Branching(), x(2, 3))
        assert any("the model was traced" in note for note in raised.value.__notes__)
    with pytest.raises(jax.errors.TracerBoolConversionError) as raised:
        flaxinit.calibrate(lambda p, v: v @ p if v[0, 0] > 0 else v, jnp.ones((3, 4)), x(2, 3))
    assert any("calibrate traced apply" in note for note in raised.value.__notes__)


def test_an_operation_that_cannot_run_on_a_sample_is_named():
    def called_back(p, v):
        y = v @ p
        return jax.pure_callback(np.tanh, jax.ShapeDtypeStruct(y.shape, y.dtype), y) @ p.T

    with pytest.raises(NotImplementedError) as raised:
        flaxinit.forecast((lambda key, v: jax.random.normal(key, (3, 4)), called_back), x(2, 3))
    assert any("pure_callback was run on a sample" in note for note in raised.value.__notes__)


def test_gradients_of_integers_are_refused():
    class Choice(nn.Module):
        @nn.compact
        def __call__(self, x):
            return jnp.argmax(nn.Dense(3)(x), -1)

    (layer,) = flaxinit.forecast(Choice(), x(2, 3)).layers
    assert layer.gradient_out is None
    with pytest.raises(ValueError, match=r"returns int32 of shape \(2,\)"):
        flaxinit.forecast(Choice(), x(2, 3), backward=True)
    with pytest.raises(ValueError, match=r"returns int32 of shape \(2,\)"):
        flaxinit.tune(Choice(), x(2, 3), keep="both")


def test_a_model_that_jax_cannot_differentiate_is_told_to_leave_gradients_out():
    def apply(p, x):
        like = jax.ShapeDtypeStruct((2, 4), x.dtype)
        return jax.pure_callback(np.sin, like, x @ p, vmap_method="expand_dims")

    model = (lambda key, x: flaxinit.lecun()(key, (4, 4)), apply)
    for call in (
        lambda: flaxinit.forecast(model, x(2, 4), backward=True),
        lambda: flaxinit.tune(model, x(2, 4), keep="backward"),
    ):
        with pytest.raises(ValueError) as raised:
            call()
        assert any("leave gradients out" in note for note in raised.value.__notes__)


def test_parameters_that_are_not_numbers_are_named():
    def init(key, x):
        return {"one": jnp.ones((3, 4)), "other": jnp.full((4, 4), jnp.nan)}

    for call in (flaxinit.forecast, flaxinit.tune):
        with pytest.raises(ValueError, match="initialization of other makes entries"):
            call((init, lambda p, x: x @ p["one"] @ p["other"]), x(2, 3))


def test_parameters_that_are_no_arrays_yet_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"only float\. Make them arrays"):
        flaxinit.audit(lambda p, v: v @ jnp.asarray(p), [[1.0, 2.0]], x(2, 1))
    with pytest.raises(TypeError, match=r"flaxinit\.forecast"):
        flaxinit.audit(nnx.eval_shape(lambda: Encoder(nnx.Rngs(0)).linear), x(2, 8))
    for call in (flaxinit.forecast, flaxinit.audit):
        with pytest.raises(TypeError, match="backward must be True or False, got 'no'"):
            call(nn.Dense(3).apply, {}, x(2, 3), **{"backward": "no"})


def test_no_kernel_is_an_error():
    with pytest.raises(ValueError, match=r"no kernel at work.*scale \(mul\)"):
        flaxinit.audit(lambda p, v: p["scale"] * v, {"scale": jnp.ones(3)}, x(2, 3))


def test_a_tracer_is_refused_and_leaves_nothing_behind():
    model, inputs = nn.Dense(8), x(4, 24)  # of a shape that no other test measures
    params = model.init(jax.random.key(1), inputs)
    for refused in (flaxinit.audit, flaxinit.calibrate):
        with pytest.raises(TypeError, match=r"traced, float32\[8\].*outside"):
            jax.jit(lambda params, refused=refused: refused(model.apply, params, inputs))(params)
        with pytest.raises(TypeError, match=r"traced, float32\[24\].*outside"):
            jax.vmap(lambda x, refused=refused: refused(model.apply, params, x))(inputs)
        with pytest.raises(TypeError, match=r"only traces operations.*outside"):
            jax.jit(lambda refused=refused: refused(model.apply, params, inputs))()
    (layer,) = flaxinit.audit(model.apply, params, inputs).layers
    wanted = np.mean(np.square(inputs @ params["params"]["kernel"]))
    assert layer.measured.signal_out == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("caller", [flaxinit.audit, flaxinit.calibrate])
def test_what_is_measured_has_parameters_first_and_a_batch_of_inputs(caller):
    model, inputs = nn.Dense(8), x(4, 16)
    params = model.init(jax.random.key(1), inputs)
    with pytest.raises(TypeError, match=r"Parameters come first.*argument 2 is a dict"):
        caller(model.apply, inputs, params)
    with pytest.raises(TypeError, match=r"No input is an array; received \(4, 16\)"):
        caller(model.apply, params, (4, 16))
    with pytest.raises(ValueError, match=r"batch is empty: float32 of shape \(0, 16\)"):
        caller(model.apply, params, inputs[:0])
    with pytest.raises(ValueError, match=r"batch is empty: float32 of shape \(0, 8\)"):
        caller(lambda p, x, table: model.apply(p, x) + table, params, inputs[:0], jnp.ones(8))
    with pytest.raises(ValueError, match="batch is empty"):
        caller(nnx.Linear(16, 8, rngs=nnx.Rngs(0)), inputs[:0])
    with pytest.raises(TypeError, match=f"{caller.__name__}.lambda module, x: jax.vmap"):
        caller(eqx.nn.Linear(16, 8, key=jax.random.key(0)), inputs)


@pytest.mark.parametrize("particles", [0, -1, 1e3])
def test_particles_are_a_count(particles):
    for call, model in [
        (flaxinit.forecast, (nn.Dense(8),)),
        (flaxinit.tune, (nn.Dense(8),)),
        (flaxinit.audit, (lambda p, x: x @ p, x(16, 8))),
    ]:
        with pytest.raises(ValueError, match="particles must be a positive integer"):
            call(*model, x(4, 16), particles=particles)


class Scores(nn.Module):
    """Attention over so many positions that one sample of its weights does not fit."""

    @nn.compact
    def __call__(self, x):
        w = self.param("query", flaxinit.lecun(), (64, 64))
        q, k = x @ w, x @ self.param("key", flaxinit.lecun(), (64, 64))
        return nn.softmax(jnp.einsum("btc,bsc->bts", q, k)) @ x


class Factored(nn.Module):
    """An operation without a rule on an array that is too large to be held whole."""

    @nn.compact
    def __call__(self, x):
        w = self.param("kernel", flaxinit.lecun(), (64, 2**20))
        return jnp.linalg.svd(x @ w, compute_uv=False)


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (3, (), "A model is a Linen module"),
        (nn.Dense, (np.ones((2, 3), np.float32),), "the class Dense: build it"),
        (nn.Dense(3), ((8, 16),), r"No input is an array; received \(8, 16\)"),
        (nn.Dense(3), ([[1.0, 2.0]],), r"No input is an array; received \[\[1.0, 2.0\]\]"),
        (nn.Dense(3), (np.ones((0, 3), np.float32),), r"batch is empty.*\(0, 3\)"),
        (nn.Dense(3), (jax.ShapeDtypeStruct((0, 3), "float32"),), r"batch is empty.*\(0, 3\)"),
        (
            (lambda key, x: eqx.nn.MLP(3, 3, 3, 1, key=key), lambda m, x: jax.vmap(m)(x)),
            (np.ones((2, 3), np.float32),),
            r"activation is a .*equinox\.filter\(module, equinox\.is_array\)",
        ),
        (nn.Embed(3, 4), (jax.ShapeDtypeStruct((2,), jnp.int32),), "has no standard values"),
        (nn.LayerNorm(), (np.ones((2, 3), np.float32),), "found no kernel at work"),
        (nn.Dense(3), (np.full((2, 3), np.nan, np.float32),), "meets params/kernel is not finite"),
        (Scores(), (jax.ShapeDtypeStruct((4, 2**14, 64), "float32"),), "GB.*after params/key"),
        (Factored(), (jax.ShapeDtypeStruct((4, 64), "float32"),), "large.*after params/kernel"),
    ],
)
def test_bad_input_is_named(model, inputs, message):
    with pytest.raises((TypeError, ValueError), match=message):
        flaxinit.forecast(model, *inputs)


def test_a_tracer_has_no_values_to_forecast_from():
    with pytest.raises(TypeError, match=r"traced, float32\[4,16\].*outside"):
        jax.jit(lambda x: flaxinit.forecast(nn.Dense(8), x).layers[0].signal_out)(x(4, 16))


def test_a_loop_that_may_never_end_is_refused_by_its_place(monkeypatch):
    monkeypatch.setattr(limits, "_STEPS", 100)

    def apply(p, x):
        h = x @ p["kernel"]
        return jax.lax.while_loop(lambda h: jnp.mean(h**2) < 1e9, lambda h: h, h)

    model = (lambda key, x: {"kernel": flaxinit.lecun()(key, (16, 8))}), apply
    for call in (flaxinit.forecast, flaxinit.tune):
        with pytest.raises(ValueError, match=r"more than 100 steps.*fori_loop.*after kernel\."):
            call(model, x(2, 16))


def test_a_model_without_kernels_cannot_be_tuned():
    """A norm multiplies the signal by a scale, which is no kernel."""
    for model in (nn.LayerNorm(), nn.Sequential([nn.Embed(8, 4)])):
        inputs = x(2, 16) if isinstance(model, nn.LayerNorm) else jnp.ones(2, int)
        with pytest.raises(ValueError, match=r"tune found no kernel at work.*params/"):
            flaxinit.tune(model, inputs)


def test_inputs_of_zero_are_told():
    model, zeros = nn.Sequential([nn.Dense(32), nn.relu, nn.Dense(8)]), jnp.zeros((4, 16))
    params = model.init(jax.random.key(0), zeros)
    reports = flaxinit.forecast(model, zeros), flaxinit.audit(model.apply, params, zeros)
    for report in reports:
        assert [finding.what for finding in report.findings] == ["no signal"]
    assert not flaxinit.forecast(model, x(4, 16)).findings
    with pytest.raises(ValueError, match=r"inputs are 0.*ShapeDtypeStruct"):
        flaxinit.tune(model, zeros)


STAGES = 4


def stacked(key, *inputs):
    return {"stages": flaxinit.lecun(batch_axis=0)(key, (STAGES, 16, 16))}


def rolled(p, x):
    """Run stages at once, each on what the one before made a tick ago."""

    def tick(state, row):
        state = jnp.concatenate([row[None], state[:-1]])
        state = jax.vmap(lambda w, h: nn.relu(h @ w))(p["stages"], state)
        return state, state[-1]

    start = jnp.zeros((STAGES, *x.shape[1:]))
    rows = jnp.concatenate([x, jnp.zeros((STAGES - 1, *x.shape[1:]))])
    return jax.lax.scan(tick, start, rows)[1][STAGES - 1 :]


def test_a_pipeline_on_whole_arrays_is_refused_because_of_its_idle_stages():
    model, inputs = (stacked, rolled), x(3, 8, 16)
    for call in (flaxinit.forecast, flaxinit.tune):
        with pytest.raises(ValueError, match=r"does not read stages: .*one after the other"):
            call(model, inputs)
    report = flaxinit.audit(rolled, stacked(jax.random.key(0)), inputs)
    assert "one after the other" in " ".join(report.remarks)


def test_experts_that_are_used_again_are_no_pipeline():
    def twice(p, x):
        for _ in range(2):  # each expert has two rows, and no expert waits
            rows = nn.relu(jnp.einsum("enk,ekm->enm", x.reshape(STAGES, -1, 16), p["stages"]))
            x = x + rows.reshape(x.shape)
        return x

    first, second = flaxinit.forecast((stacked, twice), x(8, 16)).layers
    assert second.signal_in > first.signal_in > 0
