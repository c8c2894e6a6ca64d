"""What averages, attention, maxima and centered kernels make of a signal."""

import sympy as sp

from derivations import references as ref
from derivations.page import Page
from derivations.proof import algebra, require_zero

k, rho, p, s, v, q, m, n = sp.symbols("k rho P s v q m n", positive=True)
x, y = sp.symbols("x y", real=True)


def write() -> Page:
    page = Page(
        "mixing", "Pooling, attention and centered kernels", ref.BROCK_2021, ref.COWSIK_2024
    )
    page.say(
        r"Between an activation and the next kernel a layer may mix units. The kernel keeps the "
        r"signal if it makes up for what the mixture leaves of the second moment. Below, "
        r"$\mathbb{E}[\varphi^2] = q$ and $\mathbb{E}[\varphi] = m$."
    )
    page.section("Average pooling")
    page.claim(
        (k * q + k * (k - 1) * m**2) / k**2,
        m**2 + (q - m**2) / k,
        r"The square of a mean of $k$ independent units has $k$ squares, each $q$ on average, and "
        r"$k(k-1)$ mixed terms, each $m^2$.",
        algebra,
        shown=r"\mathbb{E}\Bigl[\bigl(\tfrac1k \sum_i \varphi(z_i)\bigr)^2\Bigr] = "
        r"\frac{k q + k(k-1) m^2}{k^2}",
    ).box()
    page.section("Maximum pooling")

    def both() -> str:
        # |x - y| = √((x-y)²); max, min = (x + y ± |x - y|)/2.
        gap = sp.sqrt((x - y) ** 2)
        high, low = (x + y + gap) / 2, (x + y - gap) / 2
        require_zero(sp.expand(high**2 + low**2 - x**2 - y**2), "the sum of squares")
        return "algebra"

    page.step(
        r"\max(x,y)^2 + \min(x,y)^2 = x^2 + y^2",
        r"With $\max, \min = (x + y \pm |x - y|)/2$.",
        both,
    )
    page.say(
        r"For independent standard normal $x$, $y$, $\min(x,y) = -\max(-x,-y)$ has the same second "
        r"moment as the maximum. So the maximum of two has the second moment 1, that of one. For "
        r"$k$ units with the distribution function $F$ of $\varphi(z)$ the maximum has the "
        r"distribution function $F^k$, and"
    )
    page.display(
        r"\mathbb{E}[\max\nolimits_i \varphi(z_i)^2]",
        r"\int \varphi(z)^2\, k\, F(\varphi(z))^{k-1}\, \frac{e^{-z^2/2}}{\sqrt{2\pi}}\, dz",
    )
    page.section("Attention")
    page.claim(
        v * (p + rho * (1 - p)),
        v * (rho + (1 - rho) * p),
        r"The weights $p_j$ sum to 1, so the mixed terms have the weights $\sum_{i \ne j} p_i p_j "
        r"= 1 - P$ with $P = \sum_j p_j^2$. The values have the second moment $v$ and the "
        r"correlation $\rho$, and do not depend on the weights.",
        algebra,
        shown=r"\mathbb{E}\Bigl[\bigl(\sum_j p_j v_j\bigr)^2\Bigr] = v\,(P + \rho\,(1 - P))",
    ).box()

    def lognormal() -> str:
        density = sp.exp(-(x**2) / (2 * s)) / sp.sqrt(2 * sp.pi * s)
        first, second = (sp.integrate(sp.exp(j * x) * density, (x, -sp.oo, sp.oo)) for j in (1, 2))
        require_zero(sp.simplify(second / first**2 - sp.exp(s)), "the ratio of moments")
        return "integration"

    page.step(
        r"\frac{\mathbb{E}[e^{2a}]}{\mathbb{E}[e^{a}]^2} = \frac{e^{2s}}{e^{s}} = e^s, \qquad "
        r"T\,\mathbb{E}[P] \to e^s",
        r"For many tokens the sums over $T$ scores $a_j \sim N(0, s)$ in $P = \sum e^{2a_j} / "
        r"(\sum e^{a_j})^2$ are $T$ times their means, by the law of large numbers.",
        lognormal,
    )

    def quotient() -> str:
        t = sp.Symbol("t", positive=True)
        require_zero(sp.integrate(t * sp.exp(-t * k), (t, 0, sp.oo)) - 1 / k**2, "the integral")
        return "integration"

    page.step(
        r"\frac{1}{S^2} = \int_0^\infty t\, e^{-tS}\, dt, \qquad \mathbb{E}[P] = T \int_0^\infty "
        r"t\; \mathbb{E}[e^{2a - t e^a}]\; \mathbb{E}[e^{-t e^a}]^{T-1}\, dt",
        r"For few tokens, with $S = \sum e^{a_j}$: under the integral the mean of a product of "
        r"independent scores is the product of means.",
        quotient,
    )
    page.section("Kernels that sum to zero")
    page.say(
        r"Weight standardization subtracts from a kernel its mean over the fan of $n$. Then "
        r"$\sum_i w_i \varphi_i = \sum_i w_i (\varphi_i - m)$, so the kernel sees "
        r"$\operatorname{Var} \varphi = q - m^2$ in the place of $q$, and keeps the signal with "
        r"$\operatorname{Var} W = 1/(n \operatorname{Var} \varphi)$."
    )

    def relu() -> str:
        density = sp.exp(-(x**2) / 2) / sp.sqrt(2 * sp.pi)
        mean, square = (sp.integrate(x**j * density, (x, 0, sp.oo)) for j in (1, 2))
        require_zero(1 / (square - mean**2) - 2 * sp.pi / (sp.pi - 1), "the variance of ReLU")
        return "integration"

    page.step(
        r"\boxed{\frac{1}{\operatorname{Var}\, \max(z, 0)} = "
        r"\frac{1}{\frac12 - \frac{1}{2\pi}} = \frac{2\pi}{\pi - 1} \approx 2.934}",
        r"For ReLU $q = \frac12$ and $m = 1/\sqrt{2\pi}$.",
        relu,
    )
    return page
