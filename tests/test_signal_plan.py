"""Degrees of homogeneity, held against programs run at two scales, and what a plan finds."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxinit.signal.tuning.homogeneity import Value, applied, constant
from flaxinit.signal.tuning.plan import Bias, Branch, Merge, plan
from flaxinit.versions.jaxpr import evaluate

X = jax.random.normal(jax.random.key(0), (6, 8))
W = jax.random.normal(jax.random.key(1), (8, 8))
GROUP = frozenset({(0, ())})


def norm(y):
    return y / jnp.sqrt(jnp.mean(y**2, axis=-1, keepdims=True) + 1e-6)


def standardized(w):
    return (w - w.mean(0)) / jnp.sqrt(w.var(0) + 1e-6)


PROGRAMS = {
    "a product": (lambda w, x: x @ w, 1),
    "ReLU": (lambda w, x: jnp.maximum(x @ w, 0), 1),
    "leaky ReLU": (lambda w, x: jnp.where(x @ w > 0, x @ w, 0.1 * (x @ w)), 1),
    "squared ReLU": (lambda w, x: jnp.maximum(x @ w, 0) ** 2, 2),
    "two products": (lambda w, x: (x @ w) @ w, 2),
    "a norm": (lambda w, x: norm(x @ w), 0),
    "a function of a norm": (lambda w, x: jnp.tanh(norm(jnp.abs(x @ w))), 0),
    "a centered norm": (lambda w, x: norm((x @ w) - (x @ w).mean(-1, keepdims=True)), 0),
    "standardization": (lambda w, x: jax.nn.gelu(x @ standardized(w)), 0),
    "a root": (lambda w, x: jnp.sqrt(jnp.abs(x @ w)), 0.5),
    "a quotient": (lambda w, x: (x @ w) / jnp.sum(w**2), -1),
    "pooling": (lambda w, x: jnp.max((x @ w).reshape(6, 4, 2), -1), 1),
    "softmax of a norm": (lambda w, x: jax.nn.softmax(norm(x @ w)) @ w, 1),
    "rows": (lambda w, x: jnp.concatenate([x @ w, -(x @ w)])[1:4], 1),
    "tanh": (lambda w, x: jnp.tanh(x @ w), math.nan),
    "a sum with the input": (lambda w, x: x + x @ w, math.nan),
    "a sum of two degrees": (lambda w, x: x @ w + (x @ w) @ w, math.nan),
    "a comparison with a number": (lambda w, x: jnp.where(x @ w > 0.5, x, -x), math.nan),
    "a gate": (lambda w, x: jax.nn.sigmoid(x @ w) * (x @ w), math.nan),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_degree_is_what_scaling_does(name):
    function, expected = PROGRAMS[name]
    program = jax.make_jaxpr(function)(W, X)

    def walk(program, values):
        def one(equation, values):
            body = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
            if body is not None:
                return walk(body, values)
            made = applied(equation.primitive.name, equation.params, values)
            return [made for _ in equation.outvars]

        return evaluate(program, values, one, lambda _, value: constant(value))

    (found,) = walk(program, [Value({GROUP: 1.0}), Value(signal=True)])
    degree = found.degree(GROUP)
    assert degree == expected or (math.isnan(degree) and math.isnan(expected))
    if not math.isnan(degree):
        once, thrice = function(W, X), function(3 * W, X)
        np.testing.assert_allclose(thrice, 3.0**degree * once, rtol=1e-4, atol=1e-6)
    else:
        ratio = np.asarray(function(3 * W, X)) / np.asarray(function(W, X))
        assert np.ptp(ratio) > 0.1  # no power of 3


def planned(function, *shapes, zeros=()):
    params = [jnp.ones(shape) for shape in shapes]
    program = jax.make_jaxpr(function)(*params, X)
    return plan(program, [n in zeros for n in range(len(params))], [w.size for w in params])


def test_branches_are_counted_along_a_stream():
    def net(v, w, x):
        for _ in range(3):
            x = x + jnp.tanh(norm(x) @ v) @ w
        return x

    found = planned(net, (8, 8), (8, 8))
    branches = [each for each in found.sums.values() if isinstance(each, Branch)]
    assert [each.end for each in branches] == [frozenset({(1, ())})] * 3
    assert list(found.branches.values()) == [3]
    assert len({each.start for each in branches}) == 1  # nothing but sums in between


def test_a_stream_goes_on_through_a_norm_and_starts_anew():
    def net(w, x):
        for _ in range(3):
            x = norm(x + jnp.tanh(x) @ w)
        return x

    found = planned(net, (8, 8))
    branches = [each for each in found.sums.values() if isinstance(each, Branch)]
    assert list(found.branches.values()) == [3]
    assert len({each.start for each in branches}) == 3


def test_parallel_branches_end_together():
    def net(v, w, u, x):
        return x + (jnp.tanh(x) @ v + jnp.cos(x) @ w) @ jnp.eye(8) + jnp.sin(x) @ u

    found = planned(net, (8, 8), (8, 8), (8, 8))
    kinds = [type(each) for each in found.sums.values()]
    assert kinds == [Merge, Branch, Branch]
    (both,) = [
        each for each in found.sums.values() if isinstance(each, Branch) and len(each.end) == 2
    ]
    assert both.end == {(0, ()), (1, ())}
    assert list(found.branches.values()) == [2]


def test_branches_of_zeros_are_not_counted_and_biases_are_seen():
    def net(v, w, b, x):
        x = x + jnp.tanh(x) @ v
        return x + (jnp.tanh(x) @ w + b)

    found = planned(net, (8, 8), (8, 8), (8,), zeros=(0, 2))
    branches = [each for each in found.sums.values() if isinstance(each, Branch)]
    assert [each.end for each in branches] == [frozenset({(1, ())})]
    biases = [each for each in found.sums.values() if isinstance(each, Bias)]
    assert [(each.bias, each.owner) for each in biases] == [((2, ()), (1, ()))]


def test_kernels_before_a_head_of_zeros_are_not_taken_for_free():
    found = planned(lambda v, w, x: jnp.tanh(x @ v) @ w, (8, 8), (8, 8), zeros=(1,))
    assert not found.free
    found = planned(lambda v, w, x: norm(x @ v) @ w, (8, 8), (8, 8), zeros=(1,))
    assert found.free == {(0, ())}
