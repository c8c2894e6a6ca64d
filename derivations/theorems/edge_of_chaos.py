"""Why χ = 1 is the boundary between order and chaos."""

import sympy as sp

from derivations import references as ref
from derivations.page import Page
from derivations.proof import require, require_zero

c, s, x = sp.symbols("c s x", real=True)
chi, layer, start = sp.symbols("chi l epsilon_0", positive=True)
DEGREE = 5


def _hermite(n: int, variable: sp.Expr) -> sp.Expr:
    """Return He_n/√n!, orthonormal under the standard normal."""
    return sp.hermite_prob(n, variable) / sp.sqrt(sp.factorial(n))


def _normal(polynomial: sp.Expr, *variables: sp.Symbol) -> sp.Expr:
    """Return E of a polynomial in independent standard normals."""
    total = sp.S.Zero
    for powers, coefficient in sp.Poly(sp.expand(polynomial), *variables).terms():
        if all(n % 2 == 0 for n in powers):
            total += coefficient * sp.Mul(*(sp.factorial2(n - 1) for n in powers))
    return total


def write() -> Page:
    page = Page(
        "edge_of_chaos", "The edge of chaos", ref.POOLE_2016, ref.SCHOENHOLZ_2017, ref.PRICE_1958
    )
    page.say(
        r"Two inputs pass through the same wide random network. In each layer their "
        r"pre-activations are $\sqrt q\,u$ and $\sqrt q\,v$, where $u$, $v$ are standard normal "
        r"with correlation $c$ and $q$ is at its fixed point, "
        r"$q = \sigma_w^2\,\mathbb{E}[\phi(\sqrt q\,z)^2] + \sigma_b^2$. The next layer's "
        r"correlation is $C(c) = (\sigma_w^2\,\mathbb{E}[\phi(\sqrt q\,u)\phi(\sqrt q\,v)] + "
        r"\sigma_b^2)/q$, and $C(1) = 1$."
    )
    page.section("Price's theorem")
    other = c * x + sp.sqrt(1 - c**2) * s

    def orthogonal() -> str:
        for m in range(DEGREE + 1):
            for n in range(DEGREE + 1):
                mean = _normal(_hermite(m, x) * _hermite(n, other), x, s)
                require_zero(sp.simplify(mean) - (c**n if m == n else 0), f"m = {m}, n = {n}")
        return f"all pairs up to degree {DEGREE}"

    page.step(
        r"\mathbb{E}[h_m(u)\,h_n(v)] = c^n\,\delta_{mn}",
        r"$h_n = \mathrm{He}_n/\sqrt{n!}$ are the normalized Hermite polynomials. Write "
        r"$v = cu + \sqrt{1-c^2}\,w$ with $w$ independent of $u$.",
        orthogonal,
    )

    def derivative() -> str:
        for n in range(1, DEGREE + 1):
            slope = sp.diff(_hermite(n, x), x) - sp.sqrt(n) * _hermite(n - 1, x)
            require_zero(sp.expand(slope), f"n = {n}")
        return f"up to degree {DEGREE}"

    page.step(r"h_n' = \sqrt n\,h_{n-1}", "Hermite's recursion.", derivative)

    def price() -> str:
        a = sp.symbols(f"a_0:{DEGREE + 1}", real=True)
        dual = sum(a[n] ** 2 * c**n for n in range(DEGREE + 1))
        slopes = sum(n * a[n] ** 2 * c ** (n - 1) for n in range(1, DEGREE + 1))
        require_zero(sp.diff(dual, c) - slopes, "the derivative")
        f = sum(a[n] * _hermite(n, x) for n in range(DEGREE + 1))
        direct = _normal(sp.diff(f, x) ** 2, x)
        require_zero(sp.expand(direct - slopes.subs(c, 1)), "E[f'²]")
        return f"polynomials up to degree {DEGREE}"

    page.step(
        r"\frac{d}{dc}\,\mathbb{E}[f(u)f(v)] = \frac{d}{dc}\sum_n a_n^2 c^n = "
        r"\sum_n n\,a_n^2\,c^{n-1} = \mathbb{E}[f'(u)f'(v)]",
        r"Expand $f = \sum_n a_n h_n$ and use the two previous steps: $f' = \sum_n \sqrt n\,a_n "
        r"h_{n-1}$. Every $f$ with $\mathbb{E}[f'^2] < \infty$ is a limit of such sums.",
        price,
    )
    page.section("The slope at $c = 1$")
    q, w = sp.symbols("q sigma_w^2", positive=True)

    def slope() -> str:
        # f(z) = φ(√q z), so f' = √q φ'(√q z), and the q in the denominator cancels.
        cubic = x**3 + x
        f = cubic.subs(x, sp.sqrt(q) * x)
        left = w * _normal(sp.diff(f, x) ** 2, x) / q
        right = w * _normal(sp.diff(cubic, x).subs(x, sp.sqrt(q) * x) ** 2, x)
        require_zero(sp.expand(left - right), "the factor q")
        return "chain rule, tried on a cubic"

    page.step(
        r"\boxed{C'(1) = \sigma_w^2\,\mathbb{E}[\phi'(\sqrt q\,z)^2] = \chi}",
        r"Price's theorem with $f(z) = \phi(\sqrt q\,z)$, $f' = \sqrt q\,\phi'(\sqrt q\,z)$: the "
        r"factor $q$ cancels the one in $C$. At $c = 1$, $u = v$.",
        slope,
    )
    solution = start * chi**layer

    def decay() -> str:
        require_zero(sp.simplify(solution.subs(layer, layer + 1) / solution) - chi, "one layer")
        depth = -1 / sp.log(chi)
        require_zero(sp.simplify(sp.log(chi**layer)) + layer / depth, "the depth scale")
        require(sp.log(sp.Rational(1, 2)) < 0 < sp.log(2), "the sign of log χ is wrong.")
        return "recursion"

    page.step(
        r"1 - c_\ell \approx \varepsilon_0\,\chi^\ell = \varepsilon_0\,e^{-\ell/\xi}, "
        r"\qquad \xi = -\frac{1}{\log\chi}",
        r"To first order, each layer multiplies a difference $1 - c = \varepsilon$ by $\chi$. If "
        r"$\chi < 1$ (order), all inputs become alike. If $\chi > 1$ (chaos), near inputs move "
        r"apart. At $\chi = 1$ the depth scale $\xi$ is infinite.",
        decay,
    )
    page.say(
        r"The same $\chi$ multiplies the gradient's second moment from layer to layer, because "
        r"$\text{fan}\cdot\operatorname{Var} W = \sigma_w^2$ and each gradient is multiplied by "
        r"$\phi'$ ([linear layer](linear_layer.md)). Where correlations survive, gradients do too."
    )
    return page
