"""A function and its gradient are two programs of one trace, and compute what JAX does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxpr_as_fun

import flaxinit
from flaxinit.signal.reading import model as reading
from flaxinit.signal.reading.differentiated import differentiated


def whole(seed, *shape):
    """Draw small whole numbers, whose sums of products are exact in any order."""
    return jax.random.randint(jax.random.key(seed), shape, -3, 4).astype(float)


W, X = whole(0, 8, 8), whole(1, 4, 8)
TABLE = jnp.arange(4)


@jax.custom_vjp
def binary(x):
    return jnp.sign(x)


binary.defvjp(lambda x: (jnp.sign(x), x), lambda x, g: (jnp.where(jnp.abs(x) <= 1, g, 0.0),))

FUNCTIONS = {
    "dense": lambda w, n, x: jax.nn.relu(x @ w) @ w,
    "several outputs": lambda w, n, x: {"one": x @ w, "input": x, "constant": jnp.ones(3)},
    "rows": lambda w, n, x: w[n] * x,
    "rule of its own": lambda w, n, x: binary(x @ w),
    "checkpoint": lambda w, n, x: jax.checkpoint(lambda x: jnp.abs(x @ w))(x),
    "loop": lambda w, n, x: jax.lax.scan(lambda x, _: (jax.nn.relu(x @ w), x), x, length=3),
    "nothing of the weights": lambda w, n, x: x**2,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_programs_compute_what_jax_does(name):
    function, operands = FUNCTIONS[name], (W, TABLE, X)
    trace = lambda function, *arrays: jax.make_jaxpr(function, return_shape=True)(*arrays)
    found = differentiated(function, operands, trace)
    outputs, pull = jax.vjp(lambda w, x: function(w, TABLE, x), W, X)
    leaves, tree = jax.tree.flatten(outputs)
    slopes = [whole(n, *x.shape) for n, x in enumerate(leaves)]
    of_w, of_x = pull(tree.unflatten(slopes))
    for one, other in zip(jaxpr_as_fun(found.apply)(*operands), leaves, strict=True):
        np.testing.assert_array_equal(one, other)
    made = jaxpr_as_fun(found.pullback())(*operands, *slopes)
    for one, other in zip(made, [of_w, 0, of_x, *leaves], strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_audit_is_the_same_where_the_model_is_traced_alone(monkeypatch):
    def apply(w, x):
        return binary(jax.nn.gelu(x @ w["first"]) @ w["second"]), TABLE

    params = {"first": W, "second": W / 2}
    at_once = flaxinit.audit(apply, params, X)
    monkeypatch.setattr(reading, "_at_once", lambda *_: None)
    assert flaxinit.audit(apply, params, X).to_json() == at_once.to_json()


def test_a_gradient_that_cannot_be_traced_is_a_remark():
    @jax.custom_vjp
    def broken(x):
        return x

    def backward(_, slope):
        raise RuntimeError("no gradient here")

    broken.defvjp(lambda x: (x, None), backward)
    report = flaxinit.audit(lambda w, x: broken(x @ w) @ w, W, X)
    assert any("no gradient here" in remark for remark in report.remarks)
    assert [layer.path for layer in report.layers] == ["params", "params"]
    assert all(layer.measured.gradient_out is None for layer in report.layers)
