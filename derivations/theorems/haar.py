"""A product of Householder reflections is a uniformly distributed orthogonal matrix."""

import sympy as sp

from derivations import references as ref
from derivations.page import Page
from derivations.proof import require, require_zero

SIZES = (2, 3)


def _vector(name: str, n: int) -> sp.Matrix:
    return sp.Matrix(sp.symbols(f"{name}_1:{n + 1}", real=True))


def _reflection(v: sp.Matrix) -> sp.Matrix:
    return sp.eye(len(v)) - 2 * v * v.T / (v.T * v)[0]


def _vanishes(matrix: sp.Matrix, what: str) -> None:
    for entry in matrix:
        require_zero(sp.simplify(entry), what)


def write() -> Page:
    page = Page(
        "haar", "Haar measure by Householder reflections", ref.STEWART_1980, ref.MEZZADRI_2007
    )
    page.say(
        r"A random orthogonal matrix $Q$ is *Haar distributed* if no direction is special: for "
        r"every fixed orthogonal $U$, $UQ$ has the distribution of $Q$."
    )
    page.section("One reflection")

    def orthogonal() -> str:
        for n in SIZES:
            h = _reflection(_vector("v", n))
            _vanishes(h.T * h - sp.eye(n), "HᵀH = I")
        return "algebra, in 2 and 3 dimensions"

    page.step(
        r"H = I - \frac{2vv^T}{v^Tv}, \qquad H^T H = I - \frac{4vv^T}{v^Tv} + "
        r"\frac{4v(v^Tv)v^T}{(v^Tv)^2} = I",
        "$H$ is symmetric; multiply out.",
        orthogonal,
    )

    def maps() -> str:
        # The lengths of these vectors are integers, so the check is exact.
        for entries in ((3, 4), (-3, 4), (1, 2, 2), (-2, 3, 6)):
            a = sp.Matrix(entries)
            length, sign = a.norm(), sp.sign(a[0])
            e1 = sp.Matrix([1] + [0] * (len(a) - 1))
            _vanishes(_reflection(a + sign * length * e1) * a + sign * length * e1, "Ha = ∓|a|e₁")
        return "exact arithmetic on four vectors"

    page.step(
        r"v = a + s\lVert a\rVert e_1,\quad s = \operatorname{sign} a_1 \quad\Rightarrow\quad "
        r"Ha = -s\lVert a\rVert e_1",
        r"$v^Tv = 2\lVert a\rVert^2 + 2s\lVert a\rVert a_1 = 2v^Ta$, so "
        r"$Ha = a - v = -s\lVert a\rVert e_1$. With this sign nothing cancels in $v_1$.",
        maps,
    )
    page.section("Gaussian columns")

    def invariant() -> str:
        angle = sp.Symbol("theta", real=True)
        u = sp.Matrix([[sp.cos(angle), -sp.sin(angle)], [sp.sin(angle), sp.cos(angle)]])
        for matrix in (u, _reflection(_vector("v", 2))):
            entries = sp.Matrix(2, 2, sp.symbols("g_1:5", real=True))
            change = ((matrix * entries).T * (matrix * entries) - entries.T * entries).trace()
            require_zero(sp.simplify(change), "the exponent")
        return "algebra, for rotations and reflections of the plane"

    page.step(
        r"\operatorname{tr}\left((UG)^T UG\right) = \operatorname{tr}(G^T G)",
        r"A matrix $G$ of independent standard normals has the density "
        r"$(2\pi)^{-n^2/2}\,e^{-\operatorname{tr}(G^TG)/2}$, and $U^TU = I$. So $UG$ has the "
        r"distribution of $G$ for every orthogonal $U$.",
        invariant,
    )

    def unique() -> str:
        a, b, c = sp.symbols("a b c", positive=True)
        r, signs = sp.Matrix([[a, b], [0, c]]), sp.diag(-1, 1)
        require((signs * r)[0, 0].is_negative, "a changed sign does not show on the diagonal.")
        require_zero(sum(signs * signs - sp.eye(2)), "D² = I")
        return "signs of the diagonal"

    page.step(
        r"G = QR,\quad R_{ii} > 0",
        r"Reflect column after column: $H_{n-1}\cdots H_1 G$ is upper triangular, so $Q$ is a "
        r"product of reflections. For every diagonal matrix $D$ of signs $QR = (QD)(DR)$, so the "
        r"decomposition is unique only if the diagonal of $R$ is positive: multiply column $i$ of "
        r"$Q$ by $\operatorname{sign} R_{ii}$. Then $UG = (UQ)R$ is the decomposition of $UG$, and "
        r"$UQ$ has the distribution of $Q$. Without the signs this fails.",
        unique,
    )
    page.section("Variance of an entry")
    n, v = sp.symbols("n v", positive=True)

    def entry() -> str:
        require_zero(sp.solve(sp.Eq(n * v, 1), v)[0] - 1 / n, "the variance")
        return "solution of a linear equation"

    page.step(
        r"\boxed{\mathbb{E}[Q_{ij}] = 0, \qquad \mathbb{E}[Q_{ij}^2] = \frac1n}",
        r"If $U$ changes the sign of row $i$, the mean is its own negative. If $U$ permutes the "
        r"rows, all $n$ entries of a column have the same $\mathbb{E}[Q_{ij}^2] = v$. The column "
        r"has length 1, so $nv = 1$.",
        entry,
    )
    page.say(
        r"A square orthogonal matrix keeps $\lVert x\rVert$ exactly. With gain $s$ its entries "
        r"have the variance $s^2/n$, like those of a Gaussian matrix with that gain."
    )
    return page
