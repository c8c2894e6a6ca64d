"""Pages about one activation: its definition, three Gaussian moments, numbers and a plot."""

from dataclasses import dataclass

import mpmath
import sympy as sp
from mpmath import iv

from derivations.digits import WORKING, Real, digits, number
from derivations.notation import E, latex, oo, phi, plain, q, slope, x
from derivations.page import Claim, Page, Table
from derivations.proof import UnprovenError, algebra, require, require_zero

_QUADRATURE = 1e-15  # relative tolerance against plain numerical quadrature, an independent route

TARGETS = {
    "mean": (E(phi(x)), "E[φ]"),
    "second": (E(phi(x) ** 2), "E[φ²]"),
    "backward": (E(slope(x) ** 2), "E[φ'²]"),
}


@dataclass(frozen=True)
class Moment:
    """E[φ], E[φ²] or E[φ'²]: the exact formula in q if there is one, and bounds at q = 1."""

    exact: sp.Expr | None
    lower: Real
    upper: Real

    decimal: str  # the digits that the bounds share

    def __post_init__(self):
        require(self.lower <= self.upper, f"the bounds {self.lower} and {self.upper} are reversed.")

    @property
    def interval(self):
        return iv.mpf([self.lower, self.upper])


class Activation(Page):
    """A page about one activation.

    Args:
        name, title, references: as for every page.
        formula: φ(x) as one expression. Give this or `pieces`.
        derivative: φ'(x) as the page states it; by default the formula's derivative.
        pieces: φ piece by piece, (expression, a, b) from left to right, covering the line.
        at: the value of each parameter of φ in the numbers and plots.
    """

    kind = "activation"

    def __init__(
        self,
        name: str,
        title: str,
        *references: str,
        formula: sp.Expr | None = None,
        derivative: sp.Expr | None = None,
        pieces: list[tuple] | None = None,
        at: dict[sp.Symbol, sp.Rational] | None = None,
    ):
        super().__init__(name, title, *references)
        self.at = at or {}
        self.pieces = [tuple(map(sp.sympify, piece)) for piece in pieces or [(formula, -oo, oo)]]
        self.slopes = [(sp.factor(sp.diff(f, x)), a, b) for f, a, b in self.pieces]
        self.moments: dict[str, Moment] = {}
        self.section("Definition")
        self._check_tiling()
        if pieces:
            self.display(phi(x), _cases(self.pieces))
            self.say("with the derivative, piece by piece,")
            self.display(slope(x), _cases(self.slopes))
        else:
            self.display(phi(x), self.pieces[0][0])
            self.claim(
                slope(x),
                self.slopes[0][0] if derivative is None else derivative,
                "Differentiate, by the product and chain rules.",
                self._differentiated,
            )
            if derivative is not None:
                self.slopes = [(derivative, -oo, oo)]

    def _differentiated(self, lhs, rhs) -> str:
        require_zero(sp.diff(self.pieces[0][0], x) - rhs, "the derivative")
        return "differentiation"

    def _check_tiling(self) -> None:
        ends = [(a, b) for _, a, b in self.pieces]
        covered = [ends[0][0], *(b for _, b in ends)]
        require(
            covered[0] == -oo and covered[-1] == oo and [a for a, _ in ends] == covered[:-1],
            f"page {self.name!r}: the pieces {ends} do not cover the line from left to right.",
        )

    @property
    def smooth(self) -> bool:
        return len(self.pieces) == 1

    def unfold(self, expr):
        if not self.smooth:
            return expr
        (f, *_), (df, *_) = self.pieces[0], self.slopes[0]
        expr = expr.replace(slope, lambda u: df.subs(x, u))
        return expr.replace(phi, lambda u: f.subs(x, u))

    def _parts(self, target: sp.Expr) -> sp.Expr:
        (f,) = target.args
        return sp.Add(
            *(
                E(f.subs({phi(x): value, slope(x): rate}), a, b)
                for (value, a, b), (rate, *_) in zip(self.pieces, self.slopes, strict=True)
            )
        )

    def split(self, lhs: sp.Expr, rhs: sp.Expr) -> str:
        """Check that E of a function of φ or φ' is the sum over the pieces; a warrant."""
        require_zero(self._parts(lhs) - rhs, "the sum over the pieces")
        return "definition, piece by piece"

    def cut(self, target: sp.Expr, because: str) -> Claim:
        """Begin a derivation: cut the line at the ends of the pieces."""
        return self.claim(target, self._parts(target), because, self.split)

    def at_one(self, result: Claim, value: sp.Expr, because: str) -> Claim:
        """State the value of a closed form at q = 1 and at the page's parameters."""
        exact = result.rhs.subs(q, 1).subs(self.at)
        formula = rf"{latex(result.lhs)} \Big|_{{q=1}} = {latex(value)}"
        number = self.step(formula, because, lambda: algebra(exact, value))
        return Claim(number, exact, sp.sympify(value), sp.S.Zero, self)

    # -- results -----------------------------------------------------------------------------

    def result(
        self, which: str, found: Claim | sp.Expr | tuple, at_one: Claim | None = None
    ) -> None:
        """Record E[φ], E[φ²] or E[φ'²].

        Args:
            which: "mean", "second" or "backward".
            found: a closed form in q, or certified bounds at q = 1.
            at_one: a simpler closed form at q = 1, if the page found one.
        """
        if isinstance(found, tuple):
            lower, upper = found
            self.moments[which] = Moment(None, lower, upper, digits(lower, upper))
        else:
            exact = found.rhs if isinstance(found, Claim) else sp.sympify(found)
            self.moments[which] = self._moment(exact, at_one.rhs if at_one else exact)
        self._against_quadrature(which)

    def value(self, exact: sp.Expr, variance: sp.Expr = sp.S.One) -> sp.Expr:
        """Return the closed form at a given q and at the page's parameters."""
        return plain(exact).subs(self.at).subs(q, variance)

    def _moment(self, exact: sp.Expr, at_one: sp.Expr) -> Moment:
        """Make the moment of a closed form, with its value at q = 1."""
        closed = self.value(at_one)
        value = number(closed)
        if closed.is_Rational and closed * 10**12 == int(closed * 10**12):
            decimal = str(mpmath.nstr(value, 15)).removesuffix(".0")
        else:
            decimal = ""
        # SymPy's evalf bounds its own error to the requested digits; five are given up as a margin.
        exactly = closed.is_Rational and closed.q in (1, 2, 4, 8)
        margin = 0 if exactly else abs(value) * mpmath.mpf(10) ** (5 - WORKING)
        with mpmath.workdps(WORKING):
            lower, upper = value - margin, value + margin
        return Moment(exact, lower, upper, decimal or digits(lower, upper))

    def _against_quadrature(self, which: str) -> None:
        """Check a moment against plain numerical quadrature of its definition."""
        moment = self.moments[which]
        variances = [sp.S.One] if moment.exact is None else [sp.S.Half, sp.S.One, sp.Integer(3)]
        for variance in variances:
            expected = (
                mpmath.mpf(moment.lower)
                if moment.exact is None
                else number(self.value(moment.exact, variance))
            )
            found = self._quadrature(which, variance)
            if abs(found - expected) > _QUADRATURE * max(1, abs(expected)):
                raise UnprovenError(
                    f"page {self.name!r}: {TARGETS[which][1]} at q = {variance} is stated as "
                    f"{expected}, but numerical quadrature of the definition gives {found}."
                )

    def _quadrature(self, which: str, variance) -> Real:
        power = 1 if which == "mean" else 2
        total = mpmath.mpf(0)
        with mpmath.workdps(25):
            reach = 14 * mpmath.sqrt(mpmath.mpf(variance.p) / variance.q)
            for f, a, b in self.slopes if which == "backward" else self.pieces:
                f = plain(f).subs(self.at)
                density = sp.exp(-(x**2) / (2 * variance)) / sp.sqrt(2 * sp.pi * variance)
                low, high = (
                    number(end) if end.is_finite else sign * reach
                    for end, sign in ((a.subs(self.at), -1), (b.subs(self.at), 1))
                )
                points = [low, *(m for m in range(-20, 21, 4) if low < m < high), high]
                # Smooth up to the ends of a piece: Gauss needs fewest nodes.
                total += mpmath.quadgl(sp.lambdify(x, f**power * density, "mpmath"), points)
        return total

    # -- the end of the page -----------------------------------------------------------------

    def finish(self) -> None:
        missing = TARGETS.keys() - self.moments.keys()
        require(not missing, f"page {self.name!r} states no result for {sorted(missing)}.")
        mean, second = self.moments["mean"].lower, self.moments["second"].upper
        require(
            mean**2 <= second, f"page {self.name!r}: E[φ]² = {mean**2} exceeds E[φ²] = {second}."
        )
        self.numbers()

    def numbers(self) -> None:
        """Write the table of the moments at q = 1 and the two gains."""
        self.section("Numbers")
        if self.at:
            chosen = ", ".join(
                f"${latex(s)} = {latex(v)}$" if v.is_Rational else f"${latex(s)} = {sp.N(v, 12)}…$"
                for s, v in self.at.items()
            )
            self.say(f"At $q = 1$ and {chosen}:")
        else:
            self.say("At $q = 1$:")
        rows = []
        for which, (target, _) in TARGETS.items():
            moment = self.moments[which]
            how = "certified enclosure" if moment.exact is None else "closed form"
            rows.append((f"${latex(target)}$", moment.decimal, how))
        for which, name in ("second", "gain"), ("backward", "backward gain"):
            target = TARGETS[which][0]
            moment = self.moments[which]
            if moment.upper == 0:
                rows.append((f"{name} $1/\\sqrt{{{latex(target)}}}$", "none", "no gradient"))
                continue
            with mpmath.workdps(WORKING):
                iv.dps = WORKING
                gain = 1 / iv.sqrt(moment.interval)
                bounds = mpmath.mpf(gain.a), mpmath.mpf(gain.b)
                if moment.lower == moment.upper and bounds[0] != bounds[1]:
                    nearest = mpmath.nint(bounds[0])
                    if nearest**2 * moment.lower == 1:
                        bounds = nearest, nearest
            rows.append(
                (f"{name} $1/\\sqrt{{{latex(target)}}}$", digits(*bounds), "from the moment")
            )
        self.blocks.append(Table(("quantity", "value", "how"), tuple(rows)))


def _cases(pieces) -> str:
    rows = []
    for f, a, b in pieces:
        a_, b_ = latex(a), latex(b)
        where = f"x < {b_}" if a == -oo else f"x > {a_}" if b == oo else f"{a_} < x < {b_}"
        rows.append(rf"{latex(f)} & \text{{for }} {where}")
    return r"\begin{cases} " + r" \\ ".join(rows) + r" \end{cases}"
