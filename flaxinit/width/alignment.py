"""The equations of a model beside those of its base, which may have fewer repeated blocks.

A deep model is written out as one block after the other, so its program is that of the base with a
run of equations repeated more often:

    base    P B B S          target    P B B B B S

Beside each equation of the target stands one of the base. For a repetition that the base does not
have, that is the equation of the base's last block. Names mean nothing here either.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jax.extend.core import ClosedJaxpr, Var

from flaxinit.versions.jaxpr import called, variables


@dataclass(frozen=True)
class Alignment:
    """Two programs side by side.

    Attributes:
        beside: for each equation of the target, the number of the base's.
        run: equations of the target that are repeated more often than in the base, and whatever
            is alike before and after.
    """

    beside: Sequence[int]
    run: range = range(0)


def aligned(base: ClosedJaxpr, target: ClosedJaxpr) -> Alignment | None:
    """Lay two programs side by side; None if they differ in more than repetitions.

    >>> import jax
    >>> def net(depth):
    ...     def apply(x):
    ...         for _ in range(depth):
    ...             x = x + jax.numpy.sin(x)
    ...         return -x
    ...     return jax.make_jaxpr(apply)(1.0)
    >>> found = aligned(net(2), net(4))
    >>> found.beside, found.run
    ([0, 1, 2, 3, 2, 3, 2, 3, 4], range(0, 8))
    """
    one, other = ([e.primitive.name for e in program.eqns] for program in (base, target))
    extra = len(other) - len(one)
    if one == other:
        return Alignment(range(len(one)))
    prefix, suffix = _common(one, other), _common(one[::-1], other[::-1])
    kinds = [_kind(equation) for equation in target.eqns]
    cuts = range(max(len(one) - suffix, 1), prefix + 1)
    if extra <= 0 or not (found := _repeated(kinds, cuts, extra)):
        return None
    period, start, stop = found
    # The end of a block is where the fewest values are handed on.
    live = _live(target)
    inside = [n for n in reversed(cuts) if start + period <= n <= stop - extra]
    cut = min(inside[:period], key=lambda n: live[n])
    more = [cut - period + n % period for n in range(extra)]
    beside = [*range(cut), *more, *range(cut, len(one))]
    return Alignment(beside, range(start, stop))


def paired(base: ClosedJaxpr, target: ClosedJaxpr) -> dict[Var, Var]:
    """Return for inputs and constants of the target those of the base that are used alike."""
    pairs: dict[Var, Var] = {}
    if (alignment := aligned(base, target)) is None:
        return pairs
    inputs, others = ({*p.jaxpr.constvars, *p.jaxpr.invars} for p in (target, base))
    for equation, number in zip(target.eqns, alignment.beside, strict=True):
        template = base.eqns[number]
        atoms = list(zip(equation.invars, template.invars, strict=False))
        body, other = called(equation), called(template)
        if len(equation.invars) != len(template.invars) and body and other:
            places = [{v: n for n, v in enumerate(p.jaxpr.invars)} for p in (body, other)]
            atoms = [
                (equation.invars[places[0][one]], template.invars[places[1][two]])
                for one, two in paired(other, body).items()
                if one in places[0] and two in places[1]
            ]
        for one, two in atoms:
            if isinstance(one, Var) and isinstance(two, Var) and one in inputs and two in others:
                pairs.setdefault(one, two)
    return pairs


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many entries both begin with."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _kind(equation) -> str:
    avals = [str(atom.aval) for atom in (*equation.invars, *equation.outvars)]
    return " ".join([equation.primitive.name, *avals])


def _repeated(kinds: Sequence[str], cuts: range, extra: int) -> tuple[int, int, int] | None:
    """Find a block that is repeated, with as many equations in its repetitions as are extra.

    Returns:
        The length of the block, and where its run begins and ends; None if there is none.
    """
    for period in (n for n in range(1, extra + 1) if extra % n == 0):
        start = 0
        for n in range(period, len(kinds) + 1):
            if n < len(kinds) and kinds[n] == kinds[n - period]:
                continue
            if max(start + period, cuts.start) <= min(n - extra, cuts.stop - 1):
                return period, start, n
            start = n - period + 1
    return None


def _live(program: ClosedJaxpr) -> np.ndarray:
    """Return how many values made before each equation are used by it or later."""
    made: dict[Var, int] = {}
    last: dict[Var, int] = {}
    for n, equation in enumerate(program.eqns):
        last.update(dict.fromkeys((v for v in variables(equation) if v in made), n))
        made.update(dict.fromkeys(equation.outvars, n))
    last.update({v: len(program.eqns) for v in program.jaxpr.outvars if v in made})
    live = np.zeros(len(program.eqns) + 1, int)
    for var, n in last.items():
        live[made[var] + 1 : n + 1] += 1
    return live
