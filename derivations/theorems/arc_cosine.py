"""The arc-cosine kernel: ReLU's C-map, by integrating twice over the correlation."""

import sympy as sp

from derivations import references as ref
from derivations.page import Page
from derivations.proof import algebra, require_zero, tends

c = sp.Symbol("c", real=True)
e = sp.Symbol("epsilon", positive=True)


def write() -> Page:
    page = Page(
        "arc_cosine", "The arc-cosine kernel", ref.CHO_2009, ref.PRICE_1958, ref.DANIELY_2016
    )
    page.say(
        r"Let $u$, $v$ be standard normal with correlation $c$, and "
        r"$k(c) = \mathbb{E}[\max(u,0)\max(v,0)]$. *Price's theorem* "
        r"([edge of chaos](edge_of_chaos.md)) says that $\frac{d}{dc}\mathbb{E}[f(u)h(v)] = "
        r"\mathbb{E}[f'(u)h'(v)]$."
    )
    density = 1 / (2 * sp.pi * sp.sqrt(1 - c**2))
    first = (sp.pi - sp.acos(c)) / (2 * sp.pi)
    kernel = (sp.sqrt(1 - c**2) + c * (sp.pi - sp.acos(c))) / (2 * sp.pi)
    quadratic = sp.Matrix([[1, c], [c, 1]])

    def at_origin() -> str:
        require_zero(1 / (2 * sp.pi * sp.sqrt(quadratic.det())) - density, "the density at 0")
        return "determinant of the covariance"

    page.step(
        r"k''(c) = \mathbb{E}[\delta(u)\,\delta(v)] = \frac{1}{2\pi\sqrt{1-c^2}}",
        "Use Price's theorem twice: ReLU's derivative is the step, and the step's derivative is a "
        r"delta. What remains is the joint density at the origin, $1/(2\pi\sqrt{\det})$, and the "
        r"determinant of the covariance matrix is $1 - c^2$.",
        at_origin,
    )
    page.claim(
        sp.Derivative(first, c),
        density,
        r"Integrate: $\frac{d}{dc}\arccos c = -1/\sqrt{1-c^2}$.",
        algebra,
    )
    page.claim(
        first.subs(c, -1),
        sp.S.Zero,
        r"The constant: at $c = -1$, $v = -u$, so $u$ and $v$ are never both positive. Hence "
        r"$k'(c) = P(u>0, v>0) = (\pi - \arccos c)/2\pi$, the share of the circle that two half "
        "planes have in common.",
        algebra,
        shown=r"\frac{\pi - \arccos(-1)}{2\pi}",
    )
    page.claim(
        sp.Derivative(kernel, c),
        first,
        r"Integrate once more. The derivatives of $\sqrt{1-c^2}$ and of the arccosine cancel: "
        r"$-c/\sqrt{1-c^2} + c/\sqrt{1-c^2} = 0$.",
        algebra,
    )
    page.claim(
        kernel.subs(c, -1),
        sp.S.Zero,
        r"The constant: at $c = -1$ one factor is always 0.",
        algebra,
        shown=r"\frac{1}{2\pi}\left(\sqrt{1-1} - (\pi - \arccos(-1))\right)",
    )

    def both() -> str:
        require_zero(kernel.subs(c, 1) - sp.S.Half, "k(1) = 1/2")
        return "value at c = 1"

    page.step(
        r"\boxed{k(c) = \frac{1}{2\pi}\left(\sqrt{1-c^2} + c\,(\pi - \arccos c)\right)}",
        r"At $c = 1$ this is $\mathbb{E}[\max(u,0)^2] = \tfrac12$, as it must be.",
        both,
    )
    page.section("ReLU's C-map")
    page.claim(
        sp.Derivative(2 * kernel, c).doit().subs(c, 1),
        sp.S.One,
        r"With He's factor 2 the map is $c \mapsto 2k(c)$. Its slope at $c = 1$ is 1, so ReLU with "
        "He's variance is at the edge of chaos.",
        algebra,
        shown=r"2k'(1) = \frac{\pi - \arccos 1}{\pi}",
    )
    rest = (2 * kernel - c).subs(c, 1 - e) / e ** sp.Rational(3, 2)
    page.claim(
        sp.Limit(rest, e, 0),
        2 * sp.sqrt(2) / (3 * sp.pi),
        r"Put $c = 1 - \varepsilon$ and $\arccos c = \theta$: $2k(c) - c = "
        r"(\sin\theta - \theta\cos\theta)/\pi \approx \theta^3/3\pi$ and "
        r"$\theta \approx \sqrt{2\varepsilon}$. So $1 - c$ falls as the inverse square of the "
        "depth, not exponentially.",
        tends,
    )
    return page
