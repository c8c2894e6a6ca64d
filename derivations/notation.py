"""The symbols of the book: a Gaussian pre-activation x, its expectation E, and a few functions.

Each function is a SymPy `Function` that knows its derivative, its LaTeX and, through `plain`, its
formula in exp, log and erf. Identities between these functions become identities between
polynomials, which SymPy decides at once and a reader can follow.
"""

from typing import Any

import sympy as sp
from sympy.printing.latex import LatexPrinter
from sympy.printing.precedence import PRECEDENCE

x = sp.Symbol("x", real=True)
y = sp.Symbol("y", real=True)
t = sp.Symbol("t", positive=True)
q = sp.Symbol("q", positive=True)
oo = sp.oo


class _Named(sp.Function):
    """A function of one argument, written `symbol(argument)`, with powers after the bracket."""

    symbol: str

    def _latex(self, printer, exp=None):
        power = "" if exp is None else f"^{{{exp}}}"
        argument = printer._print(self.args[0])
        inside = rf"\left({argument}\right)" if "\\" in argument else f"({argument})"
        return f"{self.symbol}{inside}{power}"

    @classmethod
    def plain(cls, u):
        """Return the function's value at u in elementary functions."""
        # φ and φ' stand for any activation.
        raise NotImplementedError(f"{cls.__name__} is a placeholder and has no formula.")

    def _eval_evalf(self, prec):
        return None  # SymPy would look the name up in mpmath, where phi is the golden ratio

    def doit(self, **hints):
        return self.func(*(arg.doit(**hints) for arg in self.args))


class phi(_Named):  # noqa: N801 - written as in the formulas
    """The activation of a page, which defines it."""

    symbol = r"\phi"

    def fdiff(self, argindex=1):
        return slope(self.args[0])


class slope(_Named):  # noqa: N801 - written as in the formulas
    """φ', the derivative of the activation wherever it exists."""

    symbol = r"\phi'"


class g(_Named):  # noqa: N801 - written as in the formulas
    """Standard normal density: g(u) = exp(-u²/2)/√(2π), g' = -u g."""

    symbol = "g"

    def fdiff(self, argindex=1):
        return -self.args[0] * self

    @classmethod
    def plain(cls, u):
        return sp.exp(-(u**2) / 2) / sp.sqrt(2 * sp.pi)


class Phi(_Named):
    """Standard normal distribution function, Φ' = g."""

    symbol = r"\Phi"

    @classmethod
    def eval(cls, u):
        return {sp.S.Zero: sp.S.Half, sp.oo: sp.S.One, -sp.oo: sp.S.Zero}.get(u)

    def fdiff(self, argindex=1):
        return g(self.args[0])

    @classmethod
    def plain(cls, u):
        return sp.erfc(-u / sp.sqrt(2)) / 2


class p(_Named):  # noqa: N801 - written as in the formulas
    """Density of x ~ N(0, q): p(x) = exp(-x²/2q)/√(2πq), p' = -(x/q) p."""

    symbol = "p"

    def fdiff(self, argindex=1):
        return -self.args[0] / q * self

    @classmethod
    def plain(cls, u):
        return sp.exp(-(u**2) / (2 * q)) / sp.sqrt(2 * sp.pi * q)


class sigma(_Named):  # noqa: N801 - written as in the formulas
    """Logistic function: σ(u) = 1/(1 + e^{-u}), σ' = σ(1 - σ)."""

    symbol = r"\sigma"

    def fdiff(self, argindex=1):
        return self * (1 - self)

    @classmethod
    def plain(cls, u):
        return 1 / (1 + sp.exp(-u))


class softplus(_Named):  # noqa: N801 - written as in the formulas
    """s(u) = log(1 + e^u), s' = σ."""

    symbol = "s"

    def fdiff(self, argindex=1):
        return sigma(self.args[0])

    @classmethod
    def plain(cls, u):
        return sp.log(1 + sp.exp(u))


class E(sp.Function):
    """Gaussian expectation of f(x), x ~ N(0, q); with a and b, only over a < x < b."""

    nargs = (1, 3)

    @classmethod
    def eval(cls, f, a=-oo, b=oo):
        if f == 0:
            return sp.S.Zero
        if f == 1 and (a, b) == (-oo, oo):
            return sp.S.One
        return None

    @property
    def limits(self):
        return self.args[1:] if len(self.args) == 3 else (-oo, oo)

    def _eval_evalf(self, prec):
        return None  # mpmath's e is Euler's number

    def doit(self, **hints):
        return E(self.args[0].doit(**hints), *self.args[1:])

    def _latex(self, printer, exp=None):
        a, b = (printer._print(end) for end in self.limits)
        part = {
            (True, True): "",
            (True, False): rf"\,;\; x<{b}",
            (False, True): rf"\,;\; x>{a}",
            (False, False): rf"\,;\; {a}<x<{b}",
        }[self.limits[0] == -oo, self.limits[1] == oo]
        power = "" if exp is None else f"^{{{exp}}}"
        return rf"\mathbb{{E}}\left[{printer._print(self.args[0])}{part}\right]{power}"


class Mean(sp.Function):
    """Expectation over every random symbol that a theorem page names."""

    nargs = 1

    def _eval_evalf(self, prec):
        return None

    def _latex(self, printer, exp=None):
        power = "" if exp is None else f"^{{{exp}}}"
        return rf"\mathbb{{E}}\left[{printer._print(self.args[0])}\right]{power}"


def plain(expr: sp.Expr) -> Any:
    """Write g, Φ, p, σ and s in terms of exp, log and erf."""
    return expr.replace(lambda e: isinstance(e, _Named), lambda e: e.plain(e.args[0]))


def linear(expr: sp.Expr) -> Any:
    """Expand every E by linearity: E[a f + b h] = a E[f] + b E[h]."""

    def spread(f, *limits):
        f = sp.expand(f, power_exp=False, power_base=False)
        terms = (term.as_independent(x, as_Add=False) for term in sp.Add.make_args(f))
        return sp.Add(*(factor * E(rest, *limits) for factor, rest in terms))

    return sp.expand(expr.replace(E, spread), power_exp=False, power_base=False)


class _Printer(LatexPrinter):
    """SymPy's LaTeX, with products of square roots under one root: √(q/2π)."""

    def _print_Mul(self, expr):  # noqa: N802 - SymPy's naming
        number, factors = expr.as_coeff_mul()
        roots = [f for f in factors if f.is_Pow and abs(f.exp) == sp.S.Half]
        if len(roots) > 1 and number.is_Rational:
            inside = sp.Mul(*(f.base ** (2 * f.exp) for f in roots))
            whole = inside.as_coeff_Mul()[0]
            if whole.is_Integer and whole > 1 and number.q % whole == 0:
                inside, number = inside / whole**2, number * whole  # √2/2 = √(1/2)
            above, under = sp.fraction(sp.Mul(number, *(f for f in factors if f not in roots)))
            if sp.numer(inside) == 1:  # q/√(2π), not q √(1/2π)
                root = self._print(sp.sqrt(1 / inside, evaluate=False))
                under = (
                    "" if under == 1 else self.parenthesize(under, PRECEDENCE["Mul"], strict=True)
                )
                return rf"\frac{{{self._print(above)}}}{{{under} {root}}}"
            root = self._print(sp.sqrt(inside, evaluate=False))
            rest = above / under
            if abs(rest) == 1:
                return f"- {root}" if rest == -1 else root
            return f"{self.parenthesize(rest, PRECEDENCE['Mul'], strict=True)} {root}"
        return super()._print_Mul(expr)

    def _print_Derivative(self, expr):  # noqa: N802 - SymPy's naming
        (variable, order), *_ = expr.variable_count
        power = "" if order == 1 else f"^{order}"
        d = rf"\frac{{d{power}}}{{d{self._print(variable)}{power}}}"
        return rf"{d} {self.parenthesize(expr.expr, PRECEDENCE['Mul'], is_neg=False)}"


def latex(expr) -> str:
    """Return the LaTeX of a SymPy expression in the book's style; return a string unchanged."""
    return expr if isinstance(expr, str) else _Printer({"inv_trig_style": "full"}).doprint(expr)
