"""Report a derivation in Markdown, in LaTeX, and as a table for the terminal."""

import re
from typing import TYPE_CHECKING

from sympy import Expr, Symbol

from flaxinit.theory.functions.branches import Piecewise
from flaxinit.theory.functions.piecewise import derivative
from flaxinit.theory.functions.printing import latex, text
from flaxinit.theory.functions.symbols import gate, z

if TYPE_CHECKING:
    from flaxinit.theory.derivation import Derivation
    from flaxinit.theory.moments.moment import Moment


def _gains(derivation: "Derivation") -> tuple[str, str]:
    """Return the forward and the backward gain with all digits."""
    if not derivation.derivative_second_moment.exists:
        return repr(derivation.gain), "none, because JAX has no gradient of it"
    return repr(derivation.gain), repr(derivation.backward_gain)


def _certified(moment: "Moment") -> str:
    low, high = moment.bounds or (0, 0)
    exact = low == high or moment.digits.startswith("0 ±")
    return moment.digits if exact else f"{moment.digits}…"


def _defined(derivation: "Derivation") -> tuple[str, Expr]:
    """Return what the function is called, and its expression: φ(z), or f(u, v) for a gate."""
    if gate not in derivation.expr.free_symbols:
        return "\\varphi(z)", derivation.expr
    return "f(u, v)", derivation.expr.xreplace({z: Symbol("u", real=True)})


def _moments(derivation: "Derivation") -> tuple["Moment", ...]:
    return derivation.mean, derivation.second_moment, derivation.derivative_second_moment


def flax_line(derivation: "Derivation", written: str | None = None) -> str:
    """Return the line of Flax code for the kernel after this activation, open parameters at 0.1.

    Args:
        derivation: the derivation.
        written: the activation in Python code; by default its name as a string.
    """
    activation = repr(derivation.name) if written is None else written
    kernel = f"flaxinit.he({activation})"
    if parameters := derivation.second_moment.parameters:
        numbers = ", ".join(f"{parameter}=0.1" for parameter in parameters)
        kernel = f"flaxinit.he(flaxinit.derive({activation}).subs({numbers}))"
    return f"nn.Dense(features, kernel_init={kernel})"


def markdown_report(derivation: "Derivation") -> str:
    """Return every step the engine took, with its reason, in Markdown and LaTeX."""
    head, expr = _defined(derivation)
    lines = [f"## {_escaped(derivation.name)}", "", f"$${head} = {latex(expr)}$$", ""]
    if gate in derivation.expr.free_symbols:
        lines += ["$u$ and $v$ are independent and $N(0, q)$; $z$ below is either of them.", ""]
    for moment in _moments(derivation):
        if not moment.exists:
            lines += [f"### ${moment.symbol}$", "", f"It does not exist. {moment.remark}", ""]
            continue
        if moment is derivation.derivative_second_moment and derivation.mean.pieces:
            lines += [f"$$\\varphi'(z) = {latex(_slopes(derivation))}$$", ""]
        lines += _moment_markdown(moment)
    if not derivation.second_moment.parameters:
        forward, backward = _gains(derivation)
        _, second, slope = (moment.symbol for moment in _moments(derivation))
        lines += ["### Gains at $q = 1$", ""]
        lines += [
            "| | |",
            "| --- | --- |",
            f"| forward, $1/\\sqrt{{{second}}}$ | {forward} |",
            f"| backward, $1/\\sqrt{{{slope}}}$ | {backward} |",
            "",
        ]
    return "\n".join(lines)


def _slopes(derivation: "Derivation"):
    """Return φ' as one expression."""
    pieces = derivative(derivation.mean.pieces)
    if len(pieces) == 1:
        return pieces[0].expr
    cases = [(p.expr, z < p.high) for p in pieces[:-1]]
    return Piecewise(*cases, (pieces[-1].expr, True))


def _moment_markdown(moment: "Moment") -> list[str]:
    lines = [f"### ${moment.symbol}$", ""]
    if moment.exact is None:
        lines += [
            f"The engine knows no closed form. {_plain(moment.remark)} Rigorous integration in "
            "ball arithmetic encloses the value, piece by piece between the kinks, and the growth "
            "of the integrand bounds both tails.",
            "",
        ]
    for number, step in enumerate(moment.steps, start=1):
        lines += [f"{number}. {step.reason}:", "", f"   $${step.tex(moment.symbol)}$$", ""]
    if moment.exact is not None:
        lines += [f"$$\\boxed{{{moment.symbol} = {latex(moment.exact)}}}$$", ""]
    if moment.bounds is not None:
        lines += [f"At $q = 1$, certified: ${_certified(moment)}$", ""]
    return lines


def _escaped(name: str) -> str:
    """Escape a name for Markdown: `<lambda>` must not be HTML, and x * y * z not italics."""
    return re.sub(r"([\\`*<>\[\]$|]|\b_|_\b)", r"\\\1", name)


def _plain(remark: str) -> str:
    return remark.replace("**", "^").replace("*", "·")


def latex_report(derivation: "Derivation") -> str:
    """Return expression and moments as an aligned display, to paste into a paper."""
    head, expr = _defined(derivation)
    rows = [f"{head} &= {latex(expr)}"]
    for moment in _moments(derivation):
        if moment.exact is not None:
            rows.append(f"{moment.symbol} &= {latex(moment.exact)}")
        if moment.bounds is not None:
            rows.append(f"{moment.symbol}\\big|_{{q=1}} &\\approx {moment.digits}")
    if not derivation.second_moment.parameters:
        forward, backward = _gains(derivation)
        exists = derivation.derivative_second_moment.exists
        rows.append(f"g &= {forward}" + (f", \\quad g' = {backward}" if exists else ""))
    return "\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}"


def classes(derivation: "Derivation") -> str:
    """Return the universality class, or several, in a few words."""
    kinds = dict.fromkeys(point.kind for point in derivation.maps.criticality)
    return ", ".join(kinds) or "no criticality"


def terminal_report(derivation: "Derivation"):
    """Return a table for the terminal: each moment's exact form and certified digits, the gains."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    head, expr = _defined(derivation)
    names = ("E[φ]", "E[φ²]", "E[φ'²]")
    if head.startswith("f"):
        names = ("E[f]", "E[f²]", "E[f_u² + f_v²]")
    table.add_row(head.replace("\\varphi", "φ"), text(expr))
    parameters = derivation.second_moment.parameters
    if parameters:
        signs = [f"{s} > 0" if s.is_positive else f"{s} real" for s in parameters]
        table.add_row("assuming", ", ".join(signs))
    if derivation.custom_derivative:
        table.add_row("φ'(z)", "the function's own rule (a custom derivative)")
    for name, moment in zip(names, _moments(derivation), strict=True):
        if not moment.exists:
            table.add_row(Text(name), f"none: {moment.remark}")
            continue
        exact = (
            "no closed form known; certified enclosure"
            if moment.exact is None
            else text(moment.exact)
        )
        table.add_row(Text(name), exact)
        if moment.bounds is not None:
            table.add_row("  at q = 1", _certified(moment))
    if not derivation.second_moment.parameters:
        for label, gain in zip(("gain", "backward gain"), _gains(derivation), strict=True):
            table.add_row(label, gain)
    return Group(Text(derivation.name, style="bold"), table)


def meanfield_report(facts: dict):
    """Return a table for the terminal of what the mean-field theory says.

    Args:
        facts: by heading, a text, a record of numbers by name, or a list of records.
    """
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for key, value in facts.items():
        rows = value if isinstance(value, list) else [value]
        for row in rows or ["none"]:
            if row is not None:
                heading = {"dual": "E[φ(u)φ(v)]"}.get(key, key)
                table.add_row(heading, _record(row) if isinstance(row, dict) else str(row))
    return table


_SIGNS = {
    **{"q": "q", "sigma_w2": "σ_w²", "sigma_b2": "σ_b²", "slope": "slope", "chi": "χ"},
    **{"chi_correlation": "χ of correlations", "xi_q": "ξ_q", "xi_c": "ξ_c"},
}


def _record(facts: dict) -> str:
    """Return numbers by name on one line, between the class and the stability."""
    numbers = {key: value for key, value in facts.items() if key in _SIGNS and value is not None}
    if numbers.get("chi_correlation") == numbers.get("chi"):
        numbers.pop("chi_correlation", None)
    words = [f"{_SIGNS[key]} = {value:.6g}" for key, value in numbers.items()]
    if facts.get("exact") is not None:
        words.insert(1, f"exactly {facts['exact']}")
    return ", ".join([*_word(facts, "kind"), *words, *_word(facts, "stability")])


def _word(facts: dict, key: str) -> list[str]:
    return [facts[key]] if key in facts else []
