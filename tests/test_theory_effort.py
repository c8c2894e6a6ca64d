"""Limits count work: the same input gets the same answer, and none exceeds its budget."""

import re
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy
from scipy import integrate, stats

from flaxinit.theory import derive, z
from flaxinit.theory.engine import BUDGET
from flaxinit.theory.functions.brief import short
from flaxinit.theory.functions.effort import PER_SECOND, OverBudget, limited, remembered, spend
from flaxinit.theory.functions.piecewise import split
from flaxinit.theory.moments.closed_form import expectation
from flaxinit.theory.moments.enclosure import enclose
from flaxinit.theory.reading.formula import read_formula
from tests.pace import at_most


def test_an_inner_limit_is_no_more_than_the_outer():
    with limited(seconds=1), limited(seconds=5):
        spend(PER_SECOND)
        with pytest.raises(OverBudget):
            spend(1)


def test_work_inside_a_limit_counts_outside_too():
    with limited(seconds=1):
        with limited(seconds=0.5):
            spend(0.4 * PER_SECOND)
        spend(0.6 * PER_SECOND)
        with pytest.raises(OverBudget):
            spend(1)


def test_refused_work_does_not_count_outside():
    with limited(seconds=1):
        with pytest.raises(OverBudget), limited(seconds=0.5):
            spend(3 * PER_SECOND)
        spend(0.4 * PER_SECOND)
        with pytest.raises(OverBudget):
            spend(0.2 * PER_SECOND)


def test_a_remembered_result_costs_what_it_first_cost():
    @remembered
    def dear(n):
        spend(n)
        return -n

    for _ in range(3):
        with limited(seconds=1):
            assert dear(PER_SECOND) == -PER_SECOND
            with pytest.raises(OverBudget):
                spend(1)


def effort(function) -> int:
    """Return the least budget that a function needs, in hundredths of a second."""

    def suffices(hundredths: int) -> bool:
        try:
            with limited(hundredths / 100):
                function()
        except OverBudget:
            return False
        return True

    low, high = 0, 1
    while not suffices(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


@pytest.mark.parametrize("text", ["x * normal_cdf(x)", "tanh(x)", "max(x**3 - x, 0)"])
def test_work_does_not_depend_on_what_was_done_before(text):
    def work():
        enclose(split(read_formula(text)))

    first = effort(work)
    derive("erf(x) * max(x, 0)")
    assert effort(work) == first


@pytest.mark.parametrize(
    "text",
    [
        "*".join(f"abs(x-{i})" for i in range(60)),
        "+".join(f"tanh(x-{i})" for i in range(30)) + "+abs(x)",
        "sin(sin(sin(sin(x**3))))",
        "where(where(x < tanh(x), x, 1)**4 <= where(x >= x**2, x, 2) - sinh(x), selu(x), x)",
        "expm1(erfc((mish(x))**-1 * (atan(10) - cosh(x))))",
    ],
)
def test_the_budget_binds_the_whole(text):
    with at_most(10):
        try:
            derive(text, budget=1)
        except ValueError as error:
            assert len(str(error)) < 1000


def implicit(steps: int):
    """Solve ``y + tanh y = x`` by Newton's iteration."""

    def solve(f, start):
        step = lambda _, y: y - f(y) / (2 - jnp.tanh(y) ** 2)
        return jax.lax.fori_loop(0, steps, step, start)

    def solved(x):
        return jax.lax.custom_root(
            lambda y: y + jnp.tanh(y) - x, x / 2, solve, lambda g, y: y / g(jnp.ones_like(y))
        )

    return solved


@pytest.mark.parametrize("steps", [2, 4, 6])
def test_a_function_solved_by_newtons_iteration_has_an_answer(steps):
    """A derivation that its own values confirm, or an error that says what is too much."""
    function = implicit(steps)
    with at_most(BUDGET):
        try:
            derived = derive(function).second_moment.value
        except ValueError as error:
            assert re.search(r"growth|certified|parts|budget|no rule", str(error)), error
            derived = None
    if derived is not None:
        with jax.enable_x64(True):
            # The function is analytic around the line, so the trapezoidal rule only rounds.
            nodes, step = np.linspace(-12, 12, 4801, retstep=True)
            values = np.asarray(jax.vmap(function)(jnp.asarray(nodes)))
        measured = step * np.sum(values**2 * stats.norm.pdf(nodes))
        assert derived == pytest.approx(measured, rel=nodes.size * np.finfo(float).eps)


def spline(count: int):
    """Return a cubic spline as a sum of truncated powers."""
    knots = np.linspace(-3, 3, count)
    weights = np.random.default_rng(3).normal(size=count)
    return lambda x: (jnp.maximum(x[..., None] - knots, 0) ** 3) @ weights


def table(count: int):
    ends = np.linspace(-3, 3, count)
    slopes = np.random.default_rng(5).normal(size=count + 1)
    return lambda x: jnp.select(
        [x < end for end in ends], [a * x for a in slopes[:-1]], slopes[-1] * x
    )


def nested(count: int):
    ends = np.linspace(-3, 3, count)

    def function(x):
        out = jnp.tanh(x)
        for n, end in enumerate(ends):
            out = jnp.where(x > end, (n % 7) * x**2, out)
        return out

    return function


def ramps(count: int):
    ends = np.linspace(-3, 3, count)
    return lambda x: sum((-1) ** n * jax.nn.relu(x - end) for n, end in enumerate(ends))


@pytest.mark.parametrize("build", [spline, table, nested, ramps])
def test_a_hundred_knots(build):
    function = build(100)
    with limited(seconds=4):
        derivation = derive(function)
    assert len(derivation.mean.pieces) >= 100
    ends = np.unique([-12, *[float(piece.high) for piece in derivation.mean.pieces[:-1]], 12])
    points = [np.linspace(a, b, 9) for a, b in pairwise(ends)]
    inner = np.concatenate([(p[1:] + p[:-1]) / 2 for p in points])
    with jax.enable_x64(True):
        values = np.asarray(function(jnp.asarray(inner)))
    widths = np.concatenate([np.diff(p) for p in points])
    # The midpoint rule on eight panels between knots. Its error is of second order in their width.
    estimate = np.sum(values**2 * stats.norm.pdf(inner) * widths)
    assert derivation.second_moment.value == pytest.approx(estimate, rel=0.02)


def test_integration_by_knots_agrees_with_integration_by_pieces():
    expr = sum(sympy.Abs(z - n) * (n - 2) for n in range(9)) + sympy.Max(z**2 - 3, 0)
    pieces = split(expr)
    exact, steps = expectation(pieces)
    assert "each knot" in steps[0].reason
    numbers = [
        integrate.quad(
            lambda x, p=piece: float(p.expr.subs(z, x)) * stats.norm.pdf(x),
            max(float(piece.low), -12),
            min(float(piece.high), 12),
            epsabs=1e-13,
        )[0]
        for piece in pieces
    ]
    (q,) = exact.free_symbols
    assert float(exact.subs(q, 1)) == pytest.approx(sum(numbers), rel=1e-11)


def test_a_derivation_is_written_as_fast_as_it_is_found():
    derivation = derive("(max((e + x), tanh(-1)))**4", budget=2)
    with at_most(2):
        assert r"\tanh" in derivation.markdown()


def test_a_long_expression_is_cut_before_it_is_printed():
    long = sympy.Mul(*[z + sympy.sin(z + n) for n in range(2000)], evaluate=False)
    with at_most(1):
        assert len(short(long)) <= 200


def test_a_large_multiple_does_not_end_the_process():
    """SymPy's gcd of exponentials takes powers that GMP refuses, by a signal."""
    found = derive("atan(hard_tanh(sigmoid(x))) - softplus(x * (1e5)**-1)")
    assert found.second_moment.value > 0
