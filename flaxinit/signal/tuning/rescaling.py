"""Sums of products that are multiplied at once, in theory (tune) and on real inputs (calibrate)."""

import math
from typing import Any

from flaxinit.signal.tuning.homogeneity import Group, Key
from flaxinit.signal.tuning.plan import Merge, Plan


class Rescaling:
    """A part of a run in which parameters have factors.

    Attributes:
        plan: of the program.
        fixed: parameters whose factor is not to be changed.
        uses: how often each was met.
        factors: of the parameters.
    """

    plan: Plan
    fixed: frozenset[Key]
    uses: dict[Key, int]
    factors: dict[Key, Any]

    def use(self, owner: Key) -> None:
        """Count a use of a kernel."""
        for key in self.plan.group(owner):
            self.uses[key] = self.uses.get(key, 0) + 1

    def choose(self, owner: Key, factor: Any) -> None:
        """Set the factor of a kernel."""
        self.factors.update(dict.fromkeys(self.plan.group(owner), factor))

    def times(self, value: Any, factor: Any) -> Any:
        """Multiply what a kernel made."""
        raise NotImplementedError  # a signal is multiplied in another way than an array

    def merge(self, event: Merge, values: list[Any]) -> list[Any]:
        """Give the sum of two products the second moment of one."""
        if not all(self.changeable(end) for end in event.ends):
            return values
        total = sum(map(len, event.ends))
        return [
            self.rescaled(end, value, math.sqrt(len(end) / total))
            for end, value in zip(event.ends, values, strict=True)
        ]

    def changeable(self, end: Group) -> bool:
        """Return whether no other use of these parameters rests on their factors."""
        return all(key not in self.fixed and self.uses.get(key, 0) == 1 for key in end)

    def rescaled(self, end: Group, value: Any, factor: Any) -> Any:
        """Multiply a value by a factor on the parameters that end it, if they may be changed."""
        if not self.changeable(end):
            return value
        for key in end:
            self.factors[key] = factor * self.factors.get(key, 1.0)
        return self.times(value, factor)
