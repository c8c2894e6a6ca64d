"""Print closed forms as a paper does: √(2q/π) instead of SymPy's √2·√q/√π."""

import math

import sympy
from sympy import Expr, Integer, Rational, Symbol

from flaxinit.theory.functions.symbols import z

_HALF = Rational(1, 2)


class Root(sympy.Function):
    """√u, kept whole; only for printing."""

    is_commutative = True

    def _latex(self, printer, exp=None):
        root = rf"\sqrt{{{printer.doprint(self.args[0])}}}"
        return root if exp is None else rf"\left({root}\right)^{{{exp}}}"

    def _sympystr(self, printer):
        return f"sqrt({printer.doprint(self.args[0])})"


def as_printed(expr: Expr) -> Expr:
    """Merge the square roots of each product in an expression.

    >>> q = sympy.Symbol("q", positive=True)
    >>> as_printed(sympy.sqrt(2 * q / sympy.pi)), as_printed(1 / sympy.sqrt(2 * sympy.pi * q))
    (sqrt(2*q/pi), 1/sqrt(2*pi*q))
    """
    return expr.replace(lambda e: e.is_Mul, _together)


def latex(expr: object) -> str:
    r"""Return an expression in LaTeX.

    >>> q = sympy.Symbol("q", positive=True)
    >>> latex(sympy.sqrt(2 * q / sympy.pi))
    '\\sqrt{\\frac{2 q}{\\pi}}'
    """
    return sympy.latex(_without_signs(as_printed(expr)) if isinstance(expr, Expr) else expr)


def text(expr: Expr) -> str:
    """Return an expression as plain text."""
    return str(as_printed(expr))


def _without_signs(expr: Expr) -> Expr:
    """Replace q and parameters in exponents by symbols whose sign is not known.

    If an exponent is known to be negative, SymPy's printer tests whether it is constant with
    `simplify`, which takes seconds.
    """

    def has_signs(part: Expr) -> bool:
        power = isinstance(part, sympy.exp | sympy.Pow)
        return power and bool(part.as_base_exp()[1].free_symbols - {z})

    def without(power: Expr) -> Expr:
        base, exponent = power.as_base_exp()
        return base ** exponent.xreplace({s: Symbol(s.name) for s in exponent.free_symbols - {z}})

    return expr.replace(has_signs, without)


def _together(product: Expr) -> Expr:
    """Merge the square roots of a product into one."""
    factor, rest = product.as_coeff_Mul()
    outside, inside, roots = factor, Integer(1), 0
    for part in sympy.Mul.make_args(rest):
        base, power = part.as_base_exp()
        if not (power.is_Rational and power.q == 2 and base.is_positive):
            outside *= part
            continue
        half = _HALF * sympy.sign(power)
        outside, inside, roots = (
            outside * base ** (power - half),
            inside * base ** (2 * half),
            roots + 1,
        )
    if roots < 2:
        return product
    # √2/2 = √(1/2): an integer in the denominator goes into the root as far as it cancels.
    whole, denominator = Integer(inside.as_coeff_Mul()[0].p), outside.as_coeff_Mul()[0].q
    common = math.gcd(int(whole), int(denominator))
    outside, inside = outside * common, inside / common**2
    above, below = sympy.fraction(inside)
    return outside / Root(below) if above == 1 else outside * Root(inside)
