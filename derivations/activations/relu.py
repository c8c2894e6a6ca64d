"""ReLU, max(x, 0): half of a Gaussian is thrown away, and with it half of the second moment."""

from derivations import references as ref
from derivations.activation import Activation
from derivations.notation import E, oo, phi, q, slope, sp, x
from derivations.proof import even, moments


def write() -> Activation:
    page = Activation(
        "relu",
        "ReLU keeps half of the second moment",
        ref.HE_2015,
        pieces=[(0, -oo, 0), (x, 0, oo)],
    )
    page.section("Second moment")
    second = (
        page.cut(E(phi(x) ** 2), "On the left half line $\\phi$ is 0; on the right it is $x$.")
        .then(E(x**2) / 2, "$x^2$ is even and the density is symmetric: half of the whole.", even)
        .then(q / 2, "$\\mathbb{E}[x^2] = q$ is the variance of $x$.", moments)
        .box()
    )
    page.section("Backward second moment")
    backward = (
        page.cut(E(slope(x) ** 2), "The derivative is 0 on the left and 1 on the right.")
        .then(sp.S.Half, "The density is symmetric: half of the probability lies right.", even)
        .box()
    )
    page.section("Mean")
    mean = (
        page.cut(E(phi(x)), "The definition once more.")
        .then(
            sp.sqrt(q / (2 * sp.pi)),
            "$-q\\,p(x)$ has the derivative $x\\,p(x)$; between 0 and $\\infty$ it grows by "
            "$q\\,p(0) = q/\\sqrt{2\\pi q}$.",
            moments,
        )
        .box()
    )
    page.result("mean", mean)
    page.result("second", second)
    page.result("backward", backward)
    page.say(
        "The variance that keeps the second moment is twice the linear layer's, "
        "$\\operatorname{Var} W = 2/\\text{fan}_\\text{in}$; and as both moments are "
        "$\\tfrac12$ (per unit $q$), the same factor 2 keeps the gradients."
    )
    return page
