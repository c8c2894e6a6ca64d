"""ReLU, max(x, 0): it drops half of the Gaussian and half of the second moment."""

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
        .then(E(x**2) / 2, "$x^2$ and the density are even: half of the expectation.", even)
        .then(q / 2, "$\\mathbb{E}[x^2] = q$ is the variance of $x$.", moments)
        .box()
    )
    page.section("Backward second moment")
    backward = (
        page.cut(E(slope(x) ** 2), "The derivative is 0 on the left and 1 on the right.")
        .then(sp.S.Half, "The density is even: half of the probability is right of 0.", even)
        .box()
    )
    page.section("Mean")
    mean = (
        page.cut(E(phi(x)), "The definition, on each half line.")
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
        "$\\operatorname{Var} W = 2/\\text{fan}_\\text{in}$. The backward second moment is "
        "$\\tfrac12$ too, so the same factor 2 keeps the gradients."
    )
    return page
