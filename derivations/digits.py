"""Numbers with bounds, and the digits that the bounds certify."""

from typing import Any, TypeAlias

import mpmath
import sympy as sp

Real: TypeAlias = Any  # an mpmath real; mpmath declares no types

DIGITS = 30
"""Certified digits that a page states."""

WORKING = 50
"""Digits of the arithmetic behind them."""


def number(expr: sp.Expr) -> Real:
    """Evaluate a closed expression to `WORKING` digits."""
    with mpmath.workdps(WORKING):
        return mpmath.mpf(str(sp.N(expr, WORKING)))


def digits(lower: Real, upper: Real, count: int = DIGITS) -> str:
    """Return the decimal digits that two bounds share: at most `count`, truncated, not rounded."""
    with mpmath.workdps(WORKING):
        if lower == upper == mpmath.nint(lower):
            return str(int(lower))
        for places in range(count, 0, -1):
            low, high = (int(mpmath.floor(abs(b) * 10**places)) for b in (lower, upper))
            if low == high:
                sign = "-" if lower < 0 else ""
                text = str(low).rjust(places + 1, "0")
                exact = lower == upper and low == abs(lower) * 10**places
                whole, part = text[:-places], text[-places:]
                return (
                    f"{sign}{whole}.{part.rstrip('0') or '0'}"
                    if exact
                    else (f"{sign}{whole}.{part}…")
                )
    raise ValueError(f"The bounds {lower} and {upper} share no digit. Tighten them.")
