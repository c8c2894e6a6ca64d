"""The scaling of a parameter: table 3 of Yang et al. (2022), from the way it is used.

A use sums over axes that grow by a and produces axes that grow by b. If the model multiplies
what W makes by something that grows by c, W acts like c W, so with r = 1/c

    standard deviation   r (input, vector), r a^-1/2 (hidden), r / a (output)
    rate of Adam         r / a
    rate of SGD          r² b / a
    rate of Muon         r √(b / a)
    gradient             1 / (b r)

each relative to the base width. `depth` says what a branch of a deeper model adds to this.

References:
    Yang et al. (2022), Tensor programs V, table 3 and appendix B (the factor c). Yang, Simon and
    Bernstein (2023), A spectral condition for feature learning (Muon).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from flaxinit.width.uses import Use
from flaxinit.width.values import rounded

# The order in which a parameter of several uses takes the name of one.
_KINDS = ("input", "vector", "fixed", "hidden", "output")


@dataclass(frozen=True)
class Scaling:
    """The scaling of a parameter: what it should be at the target width, relative to the base.

    Attributes:
        kind: ``input``, ``hidden``, ``output``, ``vector``; ``fixed`` if nothing grows, ``unused``.
        deviation: factor on the standard deviation.
        adam: on the learning rate of Adam and its family.
        sgd: on that of gradient descent.
        orthogonal: on that of updates whose singular values are all one.
        gradient: by how much the entries of its gradient grow.
        size: by how much what it makes grows; 1 unless the model multiplies that by its inverse.
        why: in words.
        bent: the operation before its use that is not linear in it, if there is one.
        summed: by how much more entries it sums over, where no other parameter is in its kernel.
        remarks: what a factor on draws and rates cannot do, and what to write in the model.
    """

    kind: str
    deviation: float
    adam: float
    sgd: float
    orthogonal: float
    gradient: float
    size: float
    why: str
    bent: str = ""
    summed: float = 1.0
    remarks: tuple[str, ...] = ()


UNUSED = Scaling("unused", 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, "it does not meet the signal")


def scaling(name: str, uses: Sequence[Use], constant: bool, depth: float = 1.0) -> Scaling:
    """Derive the scaling of a parameter from all its uses.

    Args:
        name: for errors.
        uses: of this parameter.
        constant: whether it starts at a constant other than 0, which stays as it is.
        depth: by how much the number of branches grows.

    Raises:
        ValueError: if no factor on the draw and the rates serves all uses.
    """
    if not uses:
        return UNUSED
    wanted = [_of_use(name, use, constant, depth) for use in uses]
    # The use that wants the largest rate rules: others can be multiplied by less than 1.
    ruling = max(wanted, key=lambda s: (s.adam, -_KINDS.index(s.kind)))
    remarks = dict.fromkeys(remark for s in wanted for remark in s.remarks)
    for use, each in zip(uses, wanted, strict=True):
        if _numbers(each) == _numbers(ruling):
            continue
        factor = each.adam / ruling.adam
        if not math.isclose(each.deviation / ruling.deviation, factor):
            kinds = ", ".join(sorted({s.kind for s in wanted}))
            raise ValueError(
                f"{name} is used in several ways ({kinds}) that want different scales: no factor "
                "on its draw serves all. Give each use a parameter of its own."
            )
        remarks[
            f"{name} is used as {ruling.kind} and as {each.kind}: multiply what {use.how} makes of "
            f"it by {_number(factor)} in the model, or by base width / width."
        ] = None
    return replace(ruling, remarks=tuple(remarks))


def _numbers(each: Scaling) -> tuple[float, ...]:
    return (each.deviation, each.adam, each.sgd, each.orthogonal, each.gradient)


def _of_use(name: str, use: Use, constant: bool, depth: float) -> Scaling:
    a, b = float(use.contracted), float(use.produced)
    scales = use.scales or {use.scale}
    if len(scales) > 1:
        raise ValueError(
            f"the product of {name} is used twice, multiplied by what grows {_number(min(scales))} "
            f"and {_number(max(scales))} times: no factor on its draw serves both."
        )
    (c,) = scales
    remarks = []
    if constant and c != 1:
        remarks.append(
            f"what {name} makes is multiplied by what grows {_number(c)} times, and as a constant "
            f"it is not drawn smaller: multiply by {_number(1 / c)} in the model."
        )
        c = 1.0
    r = 1 / c
    e = depth**-0.5 if use.branch else 1.0
    last = e if use.branch == "last" else 1.0
    if constant and last != 1:
        remarks.append(
            f"a branch ends with {name}, and as a constant it is not drawn smaller: multiply the "
            f"branch by {_number(e)} in the model."
        )
        last = 1.0
    deviation = {"hidden": a**-0.5, "output": 1 / a}.get(use.kind, 1.0)
    return Scaling(
        kind=use.kind,
        deviation=rounded(last * r * deviation),
        adam=rounded(last * e * r / a),
        sgd=rounded(last**2 * r * r * b / a),
        orthogonal=rounded(last * e * r * (b / a) ** 0.5),
        gradient=rounded(e / last / (b * r)),
        size=rounded(last * r),
        why=_why(use, c, depth),
        bent=use.bent,
        summed=a if use.alone else 1.0,
        remarks=tuple(remarks),
    )


def _why(use: Use, c: float, depth: float) -> str:
    a, b = _number(float(use.contracted)), _number(float(use.produced))
    text = {
        "hidden": f"sums over {a}× as many, makes {b}× as many",
        "output": f"sums over {a}× as many, makes as many as before",
        "input": f"sums over as many as before, makes {b}× as many",
        "vector": f"one number each for {b}× as many, in {use.how}",
        "fixed": "no axis of it grows",
    }[use.kind]
    if c != 1:
        text += f"; multiplied by {_number(c)}× as much"
    if use.branch and depth != 1:
        place = "last in" if use.branch == "last" else "in"
        text += f"; {place} one of {_number(depth)}× as many branches"
    return text


def _number(x: float) -> str:
    return f"{x:.4g}"
