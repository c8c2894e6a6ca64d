"""SymPy is stopped at the limit; its failures end a search for a form, never the certificate."""

import contextlib
import cProfile
import sys
import threading

import pytest
import sympy

from flaxinit.theory import derive, z
from flaxinit.theory.functions import balls
from flaxinit.theory.functions.branches import Piecewise
from flaxinit.theory.functions.defects import SymPyFails, sympy_may_fail
from flaxinit.theory.functions.effort import PER_SECOND, OverBudget, limited, spend
from flaxinit.theory.functions.symbols import q
from flaxinit.theory.functions.watch import watched
from flaxinit.theory.moments import closed_form

LIMIT = 0.04  # seconds' worth of steps


def endless():
    """Let SymPy multiply out what has more terms than any limit here allows."""
    return sympy.expand((1 + sympy.exp(z) + sympy.erf(z)) ** 150)


def test_sympy_is_stopped_at_the_limit():
    with watched(), pytest.raises(OverBudget), limited(LIMIT):
        endless()


def test_sympy_is_stopped_again_after_an_inner_limit():
    with watched(), limited(5 * LIMIT):
        for _ in range(2):
            with pytest.raises(OverBudget), limited(LIMIT):
                endless()
        spend(4.9 * LIMIT * PER_SECOND)  # steps of SymPy and work of others are counted apart
        with pytest.raises(OverBudget), limited(1000):
            endless()


def test_a_limit_that_sympy_has_reached_stops_other_work_too():
    with watched(), pytest.raises(OverBudget), limited(LIMIT):
        with pytest.raises(OverBudget), limited(1000):
            endless()
        spend(0)


def test_sympy_does_not_catch_the_stop():
    class Careless(sympy.Function):
        @classmethod
        def eval(cls, argument):
            with contextlib.suppress(Exception):
                endless()
            return argument

    with watched(), pytest.raises(OverBudget), limited(LIMIT):
        Careless(z)


def test_without_a_watch_steps_are_not_counted():
    with limited(0):
        assert sympy.expand((z + 1) ** 40).coeff(z, 20) == sympy.binomial(40, 20)


def test_only_the_thread_that_is_watched_is_stopped():
    done = []

    def other():
        with limited(0):
            done.append(sympy.expand((z + 1) ** 40 * (z - 2) ** 30))

    with watched(), limited(1000):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert done


def test_a_profiler_stays():
    profile = cProfile.Profile()
    profile.enable()
    derive("x + tanh(x) / 3")
    profile.disable()
    assert any(entry.callcount for entry in profile.getstats())
    if sys.version_info >= (3, 12):
        assert "flaxinit" not in [sys.monitoring.get_tool(n) for n in range(6)]


def fails():
    """Raise an exception in SymPy's code."""
    return sympy.I < 1


def test_a_failure_of_sympy_costs_the_closed_form_alone(monkeypatch):
    monkeypatch.setattr(closed_form, "tidy", lambda expr: fails())
    moment = derive("x + 2*erf(x)").second_moment
    assert moment.exact is None and moment.method == "enclosure"
    assert "TypeError" in moment.remark
    monkeypatch.undo()
    exact, _ = closed_form.expectation(moment.pieces)
    with balls.precision():
        assert balls.to_ball(moment.bounds[0]) <= balls.sharp(exact, {q: 1}).upper()
        assert balls.to_ball(moment.bounds[1]) >= balls.sharp(exact, {q: 1}).lower()


def test_a_defect_of_flaxinit_is_not_hidden(monkeypatch):
    def broken(expr):
        raise AssertionError("a defect")

    monkeypatch.setattr(closed_form, "tidy", broken)
    with pytest.raises(AssertionError, match="a defect"):
        derive("x + 3*erf(x)")


@pytest.mark.parametrize(
    ("action", "kind"),
    [(fails, TypeError), (lambda: sympy.Poly(z).eval(z, {}), Exception), (lambda: {}[0], None)],
)
def test_a_failure_is_told_from_a_defect_by_where_it_is_raised(action, kind):
    with pytest.raises(SymPyFails if kind else KeyError) as caught, sympy_may_fail():
        action()
    if kind:
        assert isinstance(caught.value.__cause__, kind)


def test_a_choice_within_a_condition_stays_as_it_is_when_it_is_rebuilt():
    """SymPy's own conditions are solved again, which fails or takes minutes."""
    inner = Piecewise((z, sympy.Eq(z, 10)), (sympy.pi, True))
    outer = Piecewise((sympy.log(1 + sympy.exp(z)), inner > 0), (z, True))
    softplus = sympy.Function("softplus")
    rebuilt = outer.replace(sympy.log, lambda u: softplus(u))
    assert rebuilt.args[0][1] == (inner > 0)
    assert outer.xreplace({z: z + 1}).args[0][1].lhs.args[0][1] == sympy.Eq(z + 1, 10)


@pytest.mark.parametrize(
    "text", ["sin(exp(9489711325421163985))", "x + cos(exp(exp(exp(9))))", "atan(exp(-1e9)) + x"]
)
def test_no_function_is_applied_to_an_immoderate_constant(text):
    with pytest.raises(ValueError, match="between 1e-1000 and 1e1000"):
        derive(text)
