"""x²: fourth and second moments of a Gaussian."""

from derivations import pieces, references as ref
from derivations.activation import Activation
from derivations.notation import q, x


def write() -> Activation:
    page = Activation(
        "square",
        "The square",
        ref.DU_2018,
        formula=x**2,
    )
    pieces.whole_line(page, mean=q, second=3 * q**2, backward=4 * q)
    return page
