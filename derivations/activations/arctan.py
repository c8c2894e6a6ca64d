"""arctan: bounds for the forward moment, a closed form for the backward one."""

import sympy as sp

from derivations import analytic, gaussian, references as ref
from derivations.activation import Activation
from derivations.notation import E, slope, x, y
from derivations.proof import following, is_zero
from derivations.trapezoid import Strip


def write() -> Activation:
    page = Activation(
        "arctan",
        "The arctangent",
        ref.ABRAMOWITZ_1964,
        ref.TREFETHEN_2014,
        formula=sp.atan(x),
        derivative=1 / (1 + x**2),
    )
    page.section("Backward second moment")
    powers = gaussian.resolvent_powers(page)
    one, two = powers[1], powers[2]
    backward = (
        page.claim(
            E(slope(x) ** 2),
            E(1 / (1 + x**2) ** 2),
            "The definition.",
        )
        .then(two.rhs.subs(one.lhs, one.rhs), f"{two}, with {one}.", following(two, one))
        .box()
    )
    page.at_one(backward, sp.S.Half, "The coefficient $1 - q$ vanishes.").box()
    page.section("In the complex plane")
    page.holds(
        r"\left\lvert\frac{1}{1+(x+iy)^2}\right\rvert \le \frac43 "
        r"\qquad\text{for } \lvert y\rvert \le \tfrac12",
        r"$\operatorname{Re}(1 + (x+iy)^2) = 1 + x^2 - y^2 \ge \tfrac34$.",
        is_zero(sp.re(sp.expand((x + sp.I * y) ** 2)) - (x**2 - y**2)),
    )
    page.holds(
        r"\lvert\arctan(x+iy)\rvert \le \frac{\pi}{2} + \frac23",
        r"$\lvert\arctan x\rvert \le \tfrac{\pi}{2}$ on the real line, and on the way to $x+iy$ "
        r"it changes by at most $\tfrac12\cdot\tfrac43$.",
        sp.S.Half * sp.Rational(4, 3) == sp.Rational(2, 3),
    )
    strip = Strip(sp.S.Half, {sp.atan(x): sp.pi / 2 + sp.Rational(2, 3)})
    analytic.derive(page, strip, growth=0, closed={"backward": backward})
    return page
