"""The fuzzer on a seeded sample of formulas; `python -m tests.fuzz_formulas 5000` draws more."""

import itertools

import pytest

from tests import fuzz_formulas
from tests.fuzz_formulas import answer, commanded, formulas, uses

pytestmark = pytest.mark.any_jax

COUNT, SEED, BATCHES = 300, 0, 10


def judged(text):
    """Answer; a busy machine makes seconds longer, so only what had to be interrupted is late."""
    outcome, findings, _ = answer(text)
    late = outcome == "interrupted"
    return outcome, [finding for finding in findings if late or finding.kind != "over budget"]


@pytest.mark.parametrize("batch", range(BATCHES))
def test_whatever_goes_in_an_answer_comes_out(batch):
    texts = itertools.islice(formulas(COUNT, SEED), batch, None, BATCHES)
    found = [finding for text in texts for finding in judged(text)[1]]
    assert not found, "\n".join(map(str, found))


# Formulas that once failed, and what becomes of them now.
FOUND = {
    "cos(" * 20 + "x" + ")" * 20: "derived",
    "sinh(sin(x))": "derived",
    "sigmoid(321503**4) * x": "derived",
    "cos(sinh(x) + 1/x)": "refused",
    "where(x == 0, a, 1 - x)": "derived",
    "erf(x if x < 10 else 1.702) + erf(min(x, x)) / x**4": "refused",
    "tanh(2e-97*x)": "derived",
    "max(normal_cdf(cos(x)), sigmoid((e*-1)+(7233184978204*pi)))": "refused",
    "min(sigmoid(x), tanh(9e15*pi))": "derived",
    "sigmoid(x)/((x - x) if min(0.1, x) > x else 1)": "refused",
    "*".join(f"abs(x-{i})" for i in range(20)): "refused",
    "(1 + x)**49*(gelu(e)-x)**12": "derived",
    "(gelu(0.5) if elu(x) >= 0 else x**3) * cos(sigmoid(10 + 1.702))": "derived",
    "min((tanh(x)-log(x)), silu(x*32373462))": "refused",
    "min(sigmoid(1.702), 3 + x)": "derived",
    "erf(" * 20 + "x" + ")" * 20: "refused",
    "cosh(acos(cos(tanh(x))))": "refused",
    "(x + e)**45": "derived",
    "max(max(silu(0.044715), sign(x)), x**2)": "derived",
    "x + cosh(acosh(relu(1/3)))": "derived",
    "normal_cdf(x) * sigmoid(cosh(5897609093259135453667))": "refused",
    "x + sin(pi)**0.1": "derived",
    "x*sign(sin(pi)) + x": "derived",
    "sigmoid(" * 20 + "x" + ")" * 20: "refused",
    "relu(x) / max((e if \U00010143x > 1 else 1.702), x) / atan(mish(1e5))**-1": "refused",
    "sigmoid(cos(mish(x))) + asinh(x + e) + mish(x*x)": "derived",
    "mish(sin(erf(0.1 / x)))": "refused",
    "x + abs(mish(acosh(0.5)))": "refused",
    "relu(erf(1/x))": "derived",
    "cos(x) * x**30": "derived",
    "sigmoid(0.044715 * softplus(x))": "derived",
    "min(where(x == 1 or x < 0, x, x), atan(pi)) / hard_tanh(x + e*x)": "derived",
    "where(((mish(x) * (2 if -1.0051 >= 1 or x < 2 else x)) + (0 / x)) == 1, x, "
    "where(elu(where(10 == x, x, pi)) > 0, sin(mish(x)), pi))": "derived",
    "(1 + x)**14 * (silu(1/3) - x)**61": "derived",
    "(1 + x)**26 * (sigmoid(2.310) - x)**43": "derived",
    "sin(exp(9489711325421163985))": "refused",
    "max(cos(gelu(pi)) + 1.702*x, silu((0.1 * 3)**0.044715))": "derived",
    "(elu(x))**63": "derived",
}


@pytest.mark.parametrize("text", FOUND)
def test_formulas_that_once_failed(text):
    assert judged(text) == (FOUND[text], [])


@pytest.mark.slow
def test_the_command_answers_too():
    texts = itertools.islice(formulas(COUNT, SEED), 0, None, 15)
    found = [finding for text in texts for finding in commanded(text)]
    assert not found, "\n".join(map(str, found))


def test_the_sample_holds_answers_of_every_kind():
    texts = list(formulas(COUNT, SEED))
    assert texts == list(formulas(COUNT, SEED)) and len(set(texts)) > COUNT / 2
    assert any(not text.isascii() for text in texts) and max(map(len, texts)) > 500


class Wrong:
    """A derivation of x whose second moment is wrong by a billionth and a half."""

    def __init__(self, found):
        self.mean, self.derivative_second_moment = found.mean, found.derivative_second_moment
        self.second_moment = type("Moment", (), {"value": 1 + 1.5e-9, "parameters": ()})


def test_the_fuzzer_sees_what_is_wrong(monkeypatch):
    (finding,) = fuzz_formulas.wrong_moments("x", Wrong(fuzz_formulas.derive("x")))
    assert finding.kind == "wrong moment"
    assert not list(uses("x", fuzz_formulas.derive("x")))

    def raising(text, budget):
        raise RecursionError

    monkeypatch.setattr(fuzz_formulas, "derive", raising)
    outcome, (finding,), _ = answer("x")
    assert (outcome, finding.kind) == ("refused", "foreign exception")

    def slow(text, budget):
        while True:
            pass

    monkeypatch.setattr(fuzz_formulas, "derive", slow)
    monkeypatch.setattr(fuzz_formulas, "PATIENCE", 0.2)
    outcome, (finding,), _ = answer("x", budget=0.1)
    assert (outcome, finding.kind) == ("interrupted", "over budget")
