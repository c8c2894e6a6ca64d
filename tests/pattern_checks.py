"""What the lines of `patterns.py` may name, and the checks of what they make."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import flaxinit
from flaxinit import recipes

KEY = jax.random.key(0)
LIBRARIES = {
    **{"nn": nn, "nnx": nnx, "hk": hk, "eqx": eqx, "jnp": jnp, "jax": jax, "np": np, "re": re},
    "recipes": recipes,
}
KERNEL = flaxinit.lecun()(KEY, (16, 24))
TABLE = flaxinit.normal(0.02)(KEY, (40, 8))
X = jax.random.normal(KEY, (64, 8))


class Heads(nn.Module):
    """Attention's projections in one kernel, whose fan is read as a convolution's."""

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", flaxinit.lecun(), (8, 4, 16))
        return jnp.einsum("bd,dhk->bhk", x, kernel)


def create_train_state(key):
    params = nn.Dense(16).init(key, X)
    return params, optax.adam(1e-3).init(params)


def create_nnx(key):
    model = nnx.Linear(8, 16, rngs=nnx.Rngs(key))
    return model, nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)


def tree(blocks: int = 2) -> dict[str, Any]:
    """Return parameters of a small transformer, named as Flax and most code bases do."""

    def dense(*shape):
        return {"kernel": jnp.ones(shape), "bias": jnp.ones(shape[-1:])}

    attention = {name: {"kernel": jnp.ones((16, 2, 8))} for name in ("query", "key", "value")}
    block = {
        "attn": {**attention, "out": {"kernel": jnp.ones((2, 8, 16))}},
        "mlp": {"c_fc": dense(16, 64), "c_proj": dense(64, 16)},
        "LayerNorm_0": {"scale": jnp.ones(16), "bias": jnp.ones(16)},
    }
    return {
        "wte": {"embedding": jnp.ones((40, 16))},
        **{f"layers_{n}": block for n in range(blocks)},
        "lm_head": {"kernel": jnp.ones((16, 40))},
    }


# What a line may name besides flaxinit and libraries: what a user has at hand.
GIVEN = {
    **{"key": KEY, "gain": 1.5, "p": 0.1, "params": tree(), "W": KERNEL, "table": TABLE, "x": X},
    "reports": [],
    **{"model": Heads(), "variables": Heads().init(KEY, X), "checkpoint": {"wte": TABLE}},
    **{"create_train_state": create_train_state, "create_nnx": create_nnx},
    "rule": lambda path, x: jax.P(None, "model") if x.ndim == 2 else jax.P(),
    "init": lambda key: {"wte": jnp.ones((40, 8)), "head": flaxinit.lecun()(key, (8, 3))},
}


def close(value: float, expected: float) -> None:
    assert math.isclose(value, expected, rel_tol=1e-6), (value, expected)


def std(expected: float, shape: tuple[int, ...] = (64, 32)) -> Callable[[Any], None]:
    """Check the stated deviation, and that the initializer draws: eagerly, jitted, in bfloat16."""

    def check(init):
        close(init.std(shape), expected)
        drawn = init(KEY, shape, jnp.bfloat16)
        jitted = jax.jit(lambda key: init(key, shape, jnp.bfloat16))(KEY)
        np.testing.assert_array_equal(drawn, jitted)
        assert flaxinit.get(json.loads(json.dumps(init.to_config()))) == init

    return check


def traced(make: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Check that a scale which is only known in the program gives the same as a known one."""

    def check(init):
        jitted = jax.jit(lambda s: make(s)(KEY, (16, 8)))(2.0)
        np.testing.assert_allclose(jitted, make(2.0)(KEY, (16, 8)), rtol=1e-6)
        assert jax.eval_shape(lambda: init(KEY, (16, 8))).shape == (16, 8)

    return check


def rules(path: str, expected: float, of: Callable[[], Any] = tree) -> Callable[[Any], None]:
    """Check that `reinit` draws by the rules, and the stated deviation of one array."""

    def check(made):
        reports = []
        flaxinit.reinit(of(), made, KEY, report=reports.append)
        (rule,) = (rule for rule, names in reports[0].redrawn if path in names)
        array = of()
        for step in path.split("/"):
            array = array[step]
        init = rule.init
        if isinstance(init, recipes.like_kernel):
            init = recipes.like_kernel(init.init, of()[path.split("/")[0]]["kernel"].shape)
        close(init.std(array.shape), expected)

    return check


def drawn(path: str) -> Callable[[Any], None]:
    """Check that `reinit` returned a new tree in which this array is another."""

    def check(made):
        for step in path.split("/"):
            made = made[step]
        assert not (made == 1).any()

    return check


def reported(path: str) -> Callable[[Any], None]:
    """Check that the report names what the rule drew, and nothing else."""

    def check(made):
        drawn(path)(made)
        ((_, names),) = GIVEN["reports"].pop().redrawn
        assert path in names and all("c_proj" in name for name in names)

    return check


def refused(call: Callable[[], Any], message: str, check: Callable[[Any], None] = id):
    """Check the line, and that what users of other libraries write is an error that names it."""

    def both(made):
        check(made)
        try:
            call()
        except (TypeError, ValueError) as error:
            assert re.search(message, str(error)), error
        else:
            raise AssertionError(f"no error that says {message}")

    return both


def short(text: str) -> None:
    assert len(text) < 200


def parts(*expected: float, shape: tuple[int, int] = (64, 192)) -> Callable[[Any], None]:
    def check(init):
        for variance, known in zip(init.variances(shape), expected, strict=True):
            close(variance, known)
        assert init(KEY, shape).shape == shape

    return check


def layer(module: Any) -> None:
    assert module.init(KEY, jnp.ones((1, 4, 16)))["params"]["kernel"].size


def of_haiku(made: Any) -> None:
    params = hk.transform(lambda x: made(8)(x)).init(KEY, jnp.ones((1, 4)))
    assert params["linear"]["w"].std() > 0


def of_equinox(made: Any) -> None:
    assert abs(made.layers[0].weight).max() < 0.2


def not_called() -> nn.Module:
    return nn.Dense(8, kernel_init=flaxinit.orthogonal)


def haliax_tree() -> dict[str, Any]:
    """Return a layer whose outputs come first."""
    return {"Dense_0": {"weight": jnp.ones((48, 8))}}


def pytorch_tree() -> dict[str, Any]:
    return {
        "Dense_0": {"kernel": jnp.ones((48, 8)), "bias": jnp.ones(8)},
        "Conv_0": {"kernel": jnp.ones((3, 3, 8, 4)), "bias": jnp.ones(4)},
        "ConvTranspose_0": {"kernel": jnp.ones((3, 3, 8, 4)), "bias": jnp.ones(4)},
        "LSTMCell_0": {"kernel": jnp.ones((4, 16)), "bias": jnp.ones(16)},
        "Embed_0": {"embedding": jnp.ones((40, 8))},
    }


def vision_tree() -> dict[str, Any]:
    return {
        "pos_embed": jnp.ones((1, 4, 16)),
        "patch_embed": {"kernel": jnp.ones((2, 2, 3, 16)), "bias": jnp.ones(16)},
        "t_embedder": {"kernel": jnp.ones((8, 16))},
        "blocks": {"fc1": {"kernel": jnp.ones((16, 64))}},
        "adaLN_modulation": {"kernel": jnp.ones((16, 96)), "bias": jnp.ones(96)},
        "final_layer": {"kernel": jnp.ones((16, 8))},
    }


def same_as(values: Any, shape: tuple[int, ...]) -> Callable[[Any], None]:
    def check(init):
        np.testing.assert_allclose(init(None, shape), values, rtol=1e-5)

    return check


def orthonormal(scale: float) -> Callable[[Any], None]:
    def check(init):
        matrix = np.asarray(init(KEY, (64, 256)))
        np.testing.assert_allclose(matrix @ matrix.T, scale**2 * np.eye(64), atol=1e-4)

    return check


def without_qr(init: Any) -> None:
    program = jax.jit(lambda key: init(key, (64, 64))).lower(KEY).compile()
    assert "custom_call_target" not in program.as_text()


def beside_their_moments(made: Any) -> None:
    with jax.set_mesh(jax.make_mesh((len(jax.devices()),), ("model",))):
        state = made(KEY)
    leaves = jax.tree.leaves(nnx.state(state) if isinstance(state[0], nnx.Module) else state)
    matrices = [x for x in leaves if x.ndim == 2]  # a kernel and its two moments
    assert len(matrices) == 3 and all(x.sharding.spec == jax.P(None, "model") for x in matrices)


def completed(made: Any) -> None:
    np.testing.assert_array_equal(made["wte"], TABLE)
    assert made["head"].std() > 0


def finds_the_fan(findings: Any) -> None:
    assert any("fan" in str(finding) for finding in findings)


def split(made: Any) -> None:
    np.testing.assert_allclose(made.a @ made.b + made.residual, KERNEL, atol=1e-5)


def rows(made: Any) -> None:
    assert made.shape == (3, 8) and abs(made - TABLE.mean(0)).max() < 0.2


def step_sizes(init: Any) -> None:
    dt = jax.nn.softplus(init(KEY, (1000,)))
    assert 0.00099 < dt.min() < dt.max() < 0.101


def repeats(init: Any) -> None:
    kernel = init(KEY, (3, 3, 4, 8))
    np.testing.assert_array_equal(kernel[..., 0::4], kernel[..., 3::4])


def first_is(value: float, shape: tuple[int, ...], at: tuple[int, ...]) -> Callable[[Any], None]:
    return lambda init: close(float(init(None, shape)[at]), value)


def is_the_name(made: Any) -> None:
    assert made == flaxinit.he_uniform()


def gates(init: Any) -> None:
    kernel = init(None, (8, 32)) if not init.needs_key else init(KEY, (8, 32))
    for gate in np.split(np.asarray(kernel), 4, axis=1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(8), atol=1e-5)
