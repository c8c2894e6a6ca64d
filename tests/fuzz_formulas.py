"""A fuzzer of formulas: whatever text goes in, a derivation or a documented error comes out.

    python -m tests.fuzz_formulas 5000 --seed 1

draws formulas from a grammar, mutates some, puts unicode into some and makes some large. For each
it checks that `derive`, `he` and the command raise nothing but their documented errors, that the
answer keeps its budget of processor time, and that its moments are those of `formula_values`.
"""

import argparse
import collections
import contextlib
import io
import random
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import numpy as np

import flaxinit
from flaxinit.cli import main as command
from flaxinit.theory import CATALOGUE, derive
from flaxinit.theory.functions.defects import SymPyFails
from flaxinit.theory.reading.catalogue import ACTIVATIONS
from tests.formula_values import Unknown, moments, precise_moments

BUDGET = 2.0  # seconds of processor time
ALLOWED = 1e-9  # of E|f|
PATIENCE = 30.0  # seconds, after which a call is interrupted

DOCUMENTED = (ValueError,)
BOUNDED = ("tanh", "sigmoid", "erf", "sin", "cos", "atan", "hard_tanh", "normal_cdf")
GROWING = ("relu", "abs", "softplus", "gelu", "silu", "mish", "elu", "asinh", "sign")
DARING = ("exp", "expm1", "log", "log1p", "sqrt", "tan", "sinh", "cosh", "asin", "acos", "acosh")
PARTS = ("(", ")", " and ", "**", "where(", "1e", "nan", "q")
CHARACTERS = "xz019.e+-*/()<>=,' \n\tabsinptd_#:[]{}@!%&|^~\\\""
UNICODE = "ｘ𝑥σΦ²½×÷−·π∞√≤≠\u200b\u202e\u0301\ud800\x00\x7f😀٣۵Ⅷ＋（）ａｂｓ\u2028İß"


def expression(rng: Random, depth: int) -> str:
    """Return a formula of the grammar."""

    def inner():
        return expression(rng, depth - 1 - (rng.random() < 0.3))

    if depth <= 0:
        return rng.choice([*["x"] * 9, *[number(rng)] * 4, "pi", "e"])
    kind = rng.random()
    if kind < 0.3:
        return f"{rng.choice(BOUNDED)}({inner()})"
    if kind < 0.45:
        return f"{rng.choice(GROWING)}({inner()})"
    if kind < 0.5:
        return f"{rng.choice(DARING)}({inner()})"
    if kind < 0.75:
        return f"({inner()} {rng.choice('++-**/')} {inner()})"
    if kind < 0.82:
        return f"({inner()})**{rng.choice(['2', '3', '4', '0.5', '-1', '1.5', number(rng)])}"
    if kind < 0.9:
        return f"{rng.choice(['max', 'min'])}({inner()}, {inner()})"
    if kind < 0.97:
        return f"where({condition(rng, inner)}, {inner()}, {inner()})"
    return f"({inner()} if {condition(rng, inner)} else {inner()})"


def number(rng: Random) -> str:
    """Return a number as people write it."""
    decimal, whole = f"{rng.uniform(-3, 3):.{rng.randrange(1, 6)}f}", 10 ** rng.randrange(1, 25)
    usual = [
        "0",
        "1",
        "2",
        "3",
        "-1",
        "0.5",
        "0.1",
        "1/3",
        "0.044715",
        "1.702",
        "10",
        "1e-3",
        "1e5",
    ]
    return rng.choice([*usual, decimal, decimal, str(rng.randrange(whole))])


def condition(rng: Random, inner: Callable[[], str]) -> str:
    """Return a comparison, or two."""
    simple = f"{inner()} {rng.choice(['<', '<=', '>', '>=', '=='])} {rng.choice(['0', '1', 'x'])}"
    if rng.random() < 0.2:
        return f"{simple} {rng.choice(['and', 'or'])} x {rng.choice('<>')} {number(rng)}"
    return simple


def mutated(rng: Random, text: str) -> str:
    """Return the text with some characters and parts changed, moved or lost."""
    for _ in range(rng.randrange(1, 4)):
        i, j = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        text = (
            rng.choice(
                [
                    text[:i] + text[i + 1 :],
                    text[:i] + rng.choice(CHARACTERS) + text[i:],
                    text[:i] + text[j:],
                    text[:j] + text[i:],
                    text.replace("x", rng.choice(["a", "y", "(x)", "-x", "x.y", "2x", "x()"]), 1),
                    text[:i] + rng.choice(PARTS) + text[j:],
                ]
            )
            or "x"
        )
    return text


def unicoded(rng: Random, text: str) -> str:
    """Return the text with characters that are not ASCII."""
    for _ in range(rng.randrange(1, 4)):
        i = rng.randrange(len(text) + 1)
        character = rng.choice(UNICODE) if rng.random() < 0.7 else chr(rng.randrange(0x11_0000))
        text = text[:i] + character + text[i + rng.randrange(2) :]
    return text


def large(rng: Random) -> str:
    """Return a formula that is long, deep, of high degree, or of large numbers."""
    n, part = rng.choice([3, 8, 20, 60, 200]), expression(rng, 1)
    return rng.choice(
        [
            rng.choice("+*-").join([part] * n),
            rng.choice("+*").join(f"abs(x-{i})" for i in range(n)),
            "".join(f"where(x < {i}, {i} * x, " for i in range(n)) + "x" + ")" * n,
            f"{rng.choice(BOUNDED)}(" * min(n, 30) + "x" + ")" * min(n, 30),
            "(" * n + "x" + ")" * n,
            "-" * n + "x",
            f"max({', '.join(f'{i}*x - {i * i}' for i in range(n))})",
            f"(1 + x)**{rng.randrange(70)} * ({part} - x)**{rng.randrange(70)}",
            f"({part})**{rng.randrange(70)}",
            f"x * {rng.randrange(10 ** rng.randrange(1, 60))}",
            f"tanh({rng.randrange(1, 10)}e{rng.randrange(-110, 110)} * x)",
            f"cos({rng.randrange(1, 200)} * x) + {part}",
            f"min(x, 1e{rng.randrange(30)})",
            "/".join(["x"] * n),
            "**".join(["x"] * min(n, 20)),
            "x" + " " * 990 + "+ 1",
            "x if x > 0 else " * min(n, 60) + "0",
        ]
    )


def formulas(count: int, seed: int) -> Iterator[str]:
    """Formulas, each drawn by its own number, so that one can be drawn again."""
    names = [*CATALOGUE, *ACTIVATIONS]
    for i in range(count):
        rng = random.Random(f"{seed}:{i}")
        kind = rng.random()
        text = expression(rng, rng.randrange(1, 5))
        if kind < 0.15:
            text = mutated(rng, rng.choice([text, text, rng.choice(names)]))
        elif kind < 0.22:
            text = unicoded(rng, text)
        elif kind < 0.32:
            text = large(rng)
        yield text


@dataclass
class Finding:
    """What is wrong with the answer to a formula."""

    kind: str
    text: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text!r}\n    {self.detail}"


class Interrupted(BaseException):
    """A call took all the patience there is."""


def _interrupt(*_):
    raise Interrupted


@contextlib.contextmanager
def patience():
    """Interrupts what takes too long, in processor time."""
    before = signal.signal(signal.SIGVTALRM, _interrupt)
    signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def answer(text: str, budget: float = BUDGET) -> tuple[str, list[Finding], float]:
    """Return the outcome for a formula, what is wrong with it, and the seconds of `derive`."""
    findings, found, outcome = [], None, "refused"
    start = time.process_time()
    try:
        with patience(), warnings.catch_warnings():
            warnings.simplefilter("error")
            found = derive(text, budget=budget)
            outcome = "derived"
    except DOCUMENTED as error:
        if isinstance(error, SymPyFails):
            outcome = "refused by SymPy"
        if not str(error).strip():
            findings.append(Finding("no message", text, repr(error)))
    except Interrupted:
        outcome = "interrupted"
    except BaseException as error:
        findings.append(Finding("foreign exception", text, _described(error)))
    seconds = time.process_time() - start
    if seconds > budget:
        findings.append(Finding("over budget", text, f"{seconds:.1f} s of processor time"))
    if found is not None:
        findings += uses(text, found)
    return outcome, findings, seconds


def _described(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{'/'.join(last.filename.split('/')[-2:])}:{last.lineno}"
    return f"{type(error).__name__} at {where}: {str(error)[:200]}"


def uses(text: str, found) -> Iterator[Finding]:
    """Yield what is wrong with what is made of a derivation."""
    try:
        with patience():
            if found.second_moment.parameters:
                return
            flaxinit.he(found)
            repr(found)
            yield from wrong_moments(text, found)
    except (*DOCUMENTED, Unknown, Interrupted):
        return
    except Exception as error:
        yield Finding("foreign exception", text, _described(error))


def wrong_moments(text: str, found) -> Iterator[Finding]:
    """Moments that differ from the independent quadrature, in mpmath where float64 has doubts."""
    name = text.strip()
    text = CATALOGUE.get(name, text)
    own = [m.value for m in (found.mean, found.second_moment, found.derivative_second_moment)]
    total, size, panels = moments(text)
    doubtful = [k for k in range(3) if not abs(own[k] - total[k]) <= ALLOWED * size[k]]
    if doubtful:
        total, finer = precise_moments(text, panels), precise_moments(text, panels, digits=120)
        for k in doubtful:
            if not abs(total[k] - finer[k]) <= ALLOWED * size[k]:
                raise Unknown("rounding decides it, as in sin(pi)**0.1")
            if not abs(own[k] - total[k]) <= ALLOWED * max(size[k], abs(total[k])):
                which = ("E[φ]", "E[φ²]", "E[φ'²]")[k]
                yield Finding("wrong moment", text, f"{which} = {own[k]!r}, quadrature {total[k]}")


def commanded(text: str) -> Iterator[Finding]:
    """Yield what is wrong with the command's answer."""
    said = io.StringIO()
    try:
        with patience(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = command(["derive", text, "--json"])
    except SystemExit as error:  # argparse, of a text that is an option
        status = error.code
    except Interrupted:
        return
    except BaseException as error:
        yield Finding("foreign exception of the command", text, _described(error))
        return
    if status not in (0, 2):
        yield Finding(f"exit status {status}", text, said.getvalue()[:300])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=BUDGET)
    options = parser.parse_args(arguments)
    outcomes, kinds, times = collections.Counter(), collections.Counter(), []
    for i, text in enumerate(formulas(options.count, options.seed)):
        outcome, findings, seconds = answer(text, options.budget)
        if i % 20 == 0:
            findings += commanded(text)
        outcomes[outcome] += 1
        times.append(seconds)
        for finding in findings:
            kinds[finding.kind] += 1
            print(f"[{i}] {finding}", flush=True)
    print(dict(outcomes), dict(kinds))
    quantiles = np.quantile(times, [0.5, 0.9, 0.99, 1])
    print("seconds at the median, 90 %, 99 % and most:", *(f"{t:.2f}" for t in quantiles))
    return 1 if kinds else 0


if __name__ == "__main__":
    sys.exit(main())
