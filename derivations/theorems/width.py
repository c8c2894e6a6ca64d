"""What the width changes: spectral norms, three optimizers' rates, and factors in the model."""

import sympy as sp

from derivations import references as ref
from derivations.page import Page
from derivations.proof import require, require_zero

n, k, m, s, eta, sigma, c, rate, decay = sp.symbols("n k m s eta sigma c r lambda", positive=True)
# Sizes at the base, which stay: of what is summed over, of what comes out.
n0, k0 = sp.symbols("n_0 k_0", positive=True)
wanted = sp.sqrt(k / n)  # the spectral norm of a matrix whose inputs and outputs have size 1

# What grows with m: summed over, and made.
GROWTH = {"input": (n0, k0 * m), "hidden": (n0 * m, k0 * m), "output": (n0 * m, k0)}
# Table 3 of Yang et al. (2022): powers of m of the deviation and of the rates of SGD and Adam.
TABLE_3 = {
    "input": (0, 1, 0),
    "hidden": (-sp.S.Half, 0, -1),
    "output": (-1, -1, -1),
}
# Multiplier, deviation, SGD, Adam of tables 8 and 9, likewise.
TABLES = {
    8: {"input": (0, 0, 1, 0), "hidden": (0, -sp.S.Half, 0, -1), "output": (-1, 0, 1, 0)},
    9: {
        "input": (sp.S.Half, -sp.S.Half, 0, -sp.S.Half),
        "hidden": (0, -sp.S.Half, 0, -1),
        "output": (-sp.S.Half, -sp.S.Half, 0, -sp.S.Half),
    },
}
# Powers of the number of branches: deviation, rates of Adam, SGD and Muon, for the last kernel of a
# branch and for one before it.
BRANCH = {
    "last": (-sp.S.Half, -1, -1, -1),
    "inside": (0, -sp.S.Half, 0, -sp.S.Half),
}


def power_of_m(expr: sp.Expr, kind: str) -> sp.Expr:
    """Return the power with which an expression in n and k grows, for one kind of layer."""
    grown = expr.subs(dict(zip((n, k), GROWTH[kind], strict=True)))
    return sp.limit(sp.simplify(m * sp.diff(grown, m) / grown), m, sp.oo)


def write() -> Page:
    page = Page(
        "width",
        "Training that does not depend on the width",
        ref.YANG_2021,
        ref.YANG_2022,
        ref.YANG_2023,
        ref.YANG_2023_DEPTH,
        ref.BORDELON_2023,
    )
    page.say(
        r"A kernel $W$ turns $n$ inputs into $k$ outputs, $y = Wx$. The size of a vector is the "
        r"root mean square of its entries, so $|x| = \sqrt n$ if its size is 1. We ask that $x$, "
        r"$y$ and the change $\Delta W x$ of a step have sizes that do not depend on the width. "
        r"In a *hidden* layer $n$ and $k$ grow with the width, in an *input* layer $k$ alone, in "
        r"an *output* layer $n$ alone."
    )
    page.section("The spectral condition")

    def spectral() -> str:
        # ΔW = s u vᵀ with unit u, v, and x = √n v: ΔW x = s √n u has size s √n / √k.
        require_zero(sp.solve(sp.Eq(s * sp.sqrt(n) / sp.sqrt(k), 1), s)[0] - wanted, "the norm")
        return "solution of an equation"

    page.step(
        r"\|W\| = \|\Delta W\| = \sqrt{\frac{k}{n}}",
        r"An update of one example is $\Delta W = s\,u v^T$ with unit vectors $u$ and $v$, and $v$ "
        r"is along its input, $x = \sqrt n\,v$. So $\Delta W x = s \sqrt n\,u$ has the size "
        r"$s\sqrt{n/k}$, which is 1 for the spectral norm $s = \sqrt{k/n}$ (Yang, Simon and "
        r"Bernstein 2023).",
        spectral,
    )
    page.section("The start")
    deviation = wanted / (sp.sqrt(n) + sp.sqrt(k))

    def start() -> str:
        for kind, powers in TABLE_3.items():
            require_zero(power_of_m(deviation, kind) - powers[0], f"the {kind} layer")
        return "power of the width, for the three kinds of layer"

    page.step(
        r"\sigma\,(\sqrt n + \sqrt k) = \sqrt{\frac{k}{n}}: \qquad "
        r"\boxed{\sigma_\text{input} \sim 1, \quad \sigma_\text{hidden} \sim m^{-1/2}, "
        r"\quad \sigma_\text{output} \sim m^{-1}}",
        r"The spectral norm of a matrix of independent normal entries of deviation $\sigma$ is "
        r"$\sigma(\sqrt n + \sqrt k)$ to first order. Where the width is $m$ times as large, "
        r"insert $n = n_0 m$ or $k = k_0 m$, or both.",
        start,
    )
    page.section("The gradient")

    def gradient() -> str:
        # k terms δ_i Δy_i of equal sign, with Δy of size 1, change the loss by 1.
        size = 1 / k
        norm = size * sp.sqrt(k) * sp.sqrt(n)
        require_zero(norm - sp.sqrt(n / k), "the norm of the gradient")
        return "norm of an outer product"

    page.step(
        r"G = \delta x^T, \qquad \delta_i \sim \frac{1}{k}, \qquad \|G\| = |\delta|\,|x| = "
        r"\sqrt{\frac{n}{k}}",
        r"The loss is to change by a number that does not depend on the width, and to first order "
        r"it changes by $\delta \cdot \Delta y$, a sum of $k$ terms with $\Delta y$ of size 1. So "
        r"$\delta$ has the size $1/k$, and so have the entries of $G$.",
        gradient,
    )
    page.section("Three optimizers")
    norms = {
        "SGD": (sp.sqrt(n / k), k / n),
        "Adam": (sp.sqrt(n * k), 1 / n),
        "Muon": (sp.S.One, wanted),
    }

    def solved(name: str):
        def check() -> str:
            norm, rate = norms[name]
            require_zero(sp.solve(sp.Eq(eta * norm, wanted), eta)[0] - rate, "the rate")
            column = {"SGD": 1, "Adam": 2}.get(name)
            for kind, powers in TABLE_3.items():
                if column:
                    require_zero(power_of_m(rate, kind) - powers[column], f"the {kind} layer")
            return "solution of an equation" + (", and table 3" if column else "")

        return check

    page.step(
        r"\text{SGD:} \qquad \eta\,\|G\| = \sqrt{\frac{k}{n}} \quad\Rightarrow\quad "
        r"\boxed{\eta = \frac{k}{n}}",
        r"Insert the norm of $G$.",
        solved("SGD"),
    )
    page.step(
        r"\text{Adam:} \qquad \eta\,\|\operatorname{sign} G\| = \eta\sqrt{nk} = \sqrt{\frac{k}{n}} "
        r"\quad\Rightarrow\quad \boxed{\eta = \frac{1}{n}}",
        r"Adam's first update is the sign of $G = \delta x^T$, the outer product of the signs of "
        r"$\delta$ and $x$. Later ones have entries of the same size and point as much along $x$.",
        solved("Adam"),
    )
    page.step(
        r"\text{Muon:} \qquad \eta \cdot 1 = \sqrt{\frac{k}{n}} \quad\Rightarrow\quad "
        r"\boxed{\eta = \sqrt{\frac{k}{n}}}",
        r"An orthogonalized update has the norm 1.",
        solved("Muon"),
    )
    page.say(
        r"Adam divides by $|G_{ij}| + \varepsilon$. Since $G_{ij} \sim 1/k$, its $\varepsilon$ "
        r"must be proportional to $1/k$ to keep its meaning. A bias or gain of $k$ entries is a "
        r"kernel with $n = 1$."
    )
    page.section("Factors in the model")
    g, epsilon = sp.symbols("G epsilon", positive=True)

    def factor() -> str:
        # W = c w: the gradient in w is c G.
        sgd = sp.solve(sp.Eq(c * rate * c * g, eta * g), rate)[0]
        require_zero(sgd - eta / c**2, "SGD")
        shrunk = sp.Symbol("e", positive=True)
        adam = sp.solve(sp.Eq(c * g / (c * g + shrunk), c * g / (c * g + c * epsilon)), shrunk)[0]
        require_zero(adam - c * epsilon, "epsilon")
        same = sp.solve(sp.Eq(c * rate * c * g / (c * g + adam), eta * g / (g + epsilon)), rate)[0]
        require_zero(same - eta / c, "Adam")
        other = sp.Symbol("l", positive=True)
        for each in (sgd, same):
            kept = sp.solve(sp.Eq(each * other, eta * decay), other)[0]
            require_zero(kept * each - eta * decay, "rate times decay")
        return "one step of each, solved for what w needs"

    page.step(
        r"W = c\,w: \qquad \sigma_w = \frac{\sigma}{c}, \qquad \eta_w^\text{SGD} = "
        r"\frac{\eta}{c^2}, \qquad \eta_w^\text{Adam} = \frac{\eta}{c}, \qquad "
        r"\varepsilon_w = c\,\varepsilon, \qquad \lambda_w \eta_w = \lambda\eta",
        r"The gradient in $w$ is $cG$. Gradient descent moves $W$ by $c\,\eta_w\,cG$, Adam by "
        r"$c\,\eta_w\,cG/(cG + \varepsilon_w)$, and both must move it as before. Decay takes the "
        r"share $\eta\lambda$ of either.",
        factor,
    )

    def tables() -> str:
        for number, kinds in TABLES.items():
            for kind, (times, *powers) in kinds.items():
                start, sgd, adam = TABLE_3[kind]
                moved = (start - times, sgd - 2 * times, adam - times)
                require(tuple(powers) == moved, f"table {number}, {kind}")
        return "each entry of the tables"

    page.step(
        r"\begin{array}{l|ccc} & \text{input} & \text{hidden} & \text{output} \\ \hline "
        r"\text{table 3: } c,\ \sigma,\ \eta_\text{SGD},\ \eta_\text{Adam} & 1,\ 1,\ m,\ 1 & "
        r"1,\ m^{-1/2},\ 1,\ m^{-1} & 1,\ m^{-1},\ m^{-1},\ m^{-1} \\ "
        r"\text{table 8} & 1,\ 1,\ m,\ 1 & 1,\ m^{-1/2},\ 1,\ m^{-1} & m^{-1},\ 1,\ m,\ 1 \\ "
        r"\text{table 9} & m^{1/2},\ m^{-1/2},\ 1,\ m^{-1/2} & 1,\ m^{-1/2},\ 1,\ m^{-1} & "
        r"m^{-1/2},\ m^{-1/2},\ 1,\ m^{-1/2} \end{array}",
        r"So the three tables of Yang et al. (2022) are one: the step before turns each entry of "
        r"table 3 into those of tables 8 and 9.",
        tables,
    )
    page.section("Scores")
    size, reach = sp.symbols("u d", positive=True)

    def scores() -> str:
        require_zero(sp.Sum(size, (sp.Symbol("i"), 1, reach)).doit() - reach * size, "the sum")
        left = sp.solve(sp.Eq(s * reach * size, size), s)[0]
        require_zero(left - 1 / reach, "the factor")
        require_zero(left / (1 / sp.sqrt(reach)) - 1 / sp.sqrt(reach), "what is left")
        return "a sum of equal terms"

    page.step(
        r"\text{scores} = \frac{q \cdot k}{d} = \frac{1}{\sqrt d}\,q \cdot \frac{k}{\sqrt d}",
        r"Queries and keys of a trained head are correlated: $q \cdot k$ is a sum of $d$ terms of "
        r"one sign, and not of random signs. Where the head grows, scores of size 1 want $1/d$. In "
        r"a model that divides by $\sqrt d$ a factor $c = \sqrt d$ is too much. As above it goes "
        r"into the kernel and bias of the queries.",
        scores,
    )
    page.section("Branches")
    number, each, size_of, step = sp.symbols("L e f s", positive=True)

    def sums() -> str:
        # L independent branches of size e add L e² to the square of the stream.
        require_zero(sp.solve(sp.Eq(number * each**2, 1), each)[0] - 1 / sp.sqrt(number), "size")
        # L changes of size f, all along the gradient, add up.
        require_zero(sp.solve(sp.Eq(number * size_of, 1), size_of)[0] - 1 / number, "change")
        return "sums of random and of equal signs"

    page.step(
        r"x_{l+1} = x_l + b_l, \qquad \left|\sum b_l\right|^2 = L\,e^2 = 1 \;\Rightarrow\; "
        r"e = \frac{1}{\sqrt L}, \qquad \sum \Delta b_l = L f = 1 \;\Rightarrow\; f = \frac 1 L",
        r"The outputs $b_l$ of L branches are independent at the start. Their changes in a step "
        r"are not: all lower the loss. So outputs of size $e = 1/\sqrt L$ are to change by "
        r"$f = 1/L$, a share $1/\sqrt L$ of each (Bordelon et al. 2023; Yang et al. 2023).",
        sums,
    )

    def branch() -> str:
        share = 1 / sp.sqrt(number)
        # b = e y, and y is what kernels without the factor make. Its change is to be f / e, and the
        # gradient in a kernel before the last one is e times that without branches.
        moved = sp.solve(sp.Eq(share * step, 1 / number), step)[0]
        require_zero(moved - share, "the change of y")
        inside = {"Adam": eta, "SGD": eta * share, "Muon": eta}  # an update's size for a rate
        # The last kernel W = e w, with the factor in it: as in the step on factors in the model.
        for n, (name, grown) in enumerate(inside.items(), 1):
            solved = sp.solve(sp.Eq(grown, moved), eta)[0]
            last = solved * (share**2 if name == "SGD" else share)
            for kind, value in (("inside", solved), ("last", last)):
                power = sp.simplify(number * sp.diff(value, number) / value)
                require(power == BRANCH[kind][n], f"{name}, {kind}")
        require(sp.simplify(share - number ** BRANCH["last"][0]) == 0, "the deviation")
        return "solution of an equation for each optimizer"

    page.step(
        r"\begin{array}{l|cccc} & \sigma & \text{Adam} & \text{SGD} & \text{Muon} \\ \hline "
        r"\text{last in a branch} & L^{-1/2} & L^{-1} & L^{-1} & L^{-1} \\ "
        r"\text{before it} & 1 & L^{-1/2} & 1 & L^{-1/2} \end{array}",
        r"Write $b = e\,y$. Then $y$ has size 1 and is to change by $f/e = L^{-1/2}$. Updates of "
        r"Adam and Muon have a size of their own, so their rate is $L^{-1/2}$. The gradient in $y$ "
        r"has the factor $e$, which is all that SGD needs. If the last kernel takes the factor, "
        r"$W = e\,w$, then its deviation is $e$ times as large, the rates of Adam and Muon $e$ "
        r"times and that of SGD $e^2$ times. This is shown for branches of one layer; with more "
        r"layers every rule of this kind has limits in the infinitely deep model (Yang et al.).",
        branch,
    )
    return page
