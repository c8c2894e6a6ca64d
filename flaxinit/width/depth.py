"""Branches of a model whose blocks are repeated more often than in its base.

A residual model adds the outputs of L branches to a stream, x ↦ x + f(x). The outputs of f should
be 1/√L as large, and each branch should change by 1/L in a step. So relative to a base with ℓ times
fewer branches, with e = ℓ^-1/2,

    parameter                        deviation   Adam   SGD   Muon   gradient
    last in its branch, as W x       e           e²     e²    e²     1
    another of the branch            1           e      1     e      e

times the factors for the width.

References:
    Yang, Yu, Zhu and Hayou (2023), Tensor programs VI: feature learning in infinite-depth neural
    networks. Bordelon, Noci, Li, Hanin and Pehlevan (2023), Depthwise hyperparameter transfer in
    residual networks: dynamics and scaling limit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from flaxinit.width.alignment import Alignment
from flaxinit.width.uses import Use
from flaxinit.width.values import Value

Place = tuple[int, ...]  # an equation, by its number in each of the programs around it


@dataclass(frozen=True)
class Addition:
    """A sum of a stream and a branch.

    Attributes:
        uses: of parameters in the branch, as bits.
        last: those among them whose product the branch ends with.
        size: by how much the outputs of the branch grow.
    """

    uses: int
    last: frozenset[int]
    size: float


@dataclass
class Depth:
    """What a walk finds of branches and repetitions.

    Attributes:
        origins: for each place the place in the base.
        repeated: places that are repeated more often than in the base.
        lengths: of loops, at the base and at the target, by place.
        stacked: parameters of which each step of such a loop has its own part.
        additions: of branches, by place.
        roots: for the uses that a sum depends on, the parameters of its stream: two branches of one
            stream may be added one after the other.
    """

    origins: dict[Place, Place] = field(default_factory=dict)
    repeated: set[Place] = field(default_factory=set)
    lengths: dict[Place, tuple[int, int]] = field(default_factory=dict)
    stacked: set[int] = field(default_factory=set)
    additions: dict[Place, Addition] = field(default_factory=dict)
    roots: dict[int, set[int]] = field(default_factory=dict)

    def enter(self, place: Place, alignment: Alignment) -> None:
        """Note where the equations of a program stand in the base, and which are repeated."""
        origin = self.origin(place)
        for n, number in enumerate(alignment.beside):
            here = (*place, n)
            self.origins[here] = (*origin, number)
            if n in alignment.run or within(place, self.repeated):
                self.repeated.add(here)

    def loop(self, place: Place, base: int, target: int, stacked: set[int]) -> None:
        """Note the lengths of a loop, and the parameters that are stacked along its steps."""
        self.lengths[place] = base, target
        if base != target:
            self.repeated.add(place)
            self.stacked |= stacked

    def origin(self, place: Place) -> Place:
        if not place or place in self.origins:
            return self.origins.get(place, ())
        return (*self.origin(place[:-1]), place[-1])

    def added(
        self, place: Place, one: Value, other: Value, total: Value, uses: Sequence[Use]
    ) -> None:
        """Note a sum if one term depends on the other, as the output of a branch does.

        Args:
            place: of the sum.
            one: a term.
            other: the other term.
            total: the sum.
            uses: of parameters so far.
        """

        def behind(bits: int) -> set[int]:
            return {use.parameter for n, use in enumerate(uses) if bits >> n & 1}

        for stream, branch in ((one, other), (other, one)):
            # Rows of a table are a stream too, and the branch reads them.
            table = set(stream.parts) if stream.looked_up else set()
            root = table or self.roots.get(stream.behind, behind(stream.behind))
            rows = sum(1 << n for n, use in enumerate(uses) if use.parameter in table)
            inside = branch.behind & ~(stream.behind | rows)
            flows = branch.signal and (stream.signal or table) and root <= behind(branch.behind)
            if flows and inside:
                self.roots[total.behind] = root
                last = frozenset(n for n in branch.scales if inside >> n & 1)
                self.additions.setdefault(place, Addition(inside, last, branch.size))
                return

    @property
    def branches(self) -> list[Addition]:
        """The branches that are repeated more often than in the base."""
        return [each for place, each in self.additions.items() if within(place, self.repeated)]

    @property
    def growth(self) -> Fraction:
        """By how much the number of branches grows."""
        places = [place for place in self.additions if within(place, self.repeated)]
        origins = {self.origin(place): place for place in places}
        counts = (
            sum(
                math.prod(pair[side] for at, pair in self.lengths.items() if at == each[: len(at)])
                for each in chosen
            )
            for side, chosen in ((0, origins.values()), (1, places))
        )
        base, target = counts
        return Fraction(target, base) if base else Fraction(1)


def within(place: Place, places: set[Place]) -> bool:
    """Return whether a place, or a program around it, is among these."""
    return any(place[:n] in places for n in range(1, len(place) + 1))
