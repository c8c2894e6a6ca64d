"""The uses of a parameter: where it meets the signal, and what it sums over and produces there."""

from dataclasses import dataclass, field
from fractions import Fraction


@dataclass
class Use:
    """One meeting of a parameter with the signal.

    Attributes:
        parameter: its number.
        how: the operation.
        contracted: growth of its axes that are summed over, a.
        produced: growth of its axes that come out, b.
        contracts: whether it is summed over at all, as a kernel is.
        scale: growth of what its product is multiplied by, at first.
        bent: the operation before it that is not linear in the parameter, if there is one.
        scales: growth of what its product is multiplied by where it is consumed.
        alone: whether the signal meets it without another parameter, such as a gain on it.
        branch: ``inside`` or ``last`` in a branch of a model that grows deeper; empty if neither.
    """

    parameter: int
    how: str
    contracted: Fraction
    produced: Fraction
    contracts: bool
    scale: float
    bent: str = ""
    scales: set[float] = field(default_factory=set)
    alone: bool = True
    branch: str = ""

    @property
    def kind(self) -> str:
        """``hidden``, ``output``, ``input``, ``vector``, or ``fixed`` if nothing grows.

        >>> Use(0, "dot_general", Fraction(4), Fraction(1), True, 1.0).kind
        'output'
        """
        if self.contracted != 1:
            return "hidden" if self.produced != 1 else "output"
        if self.produced == 1:
            return "fixed"
        return "input" if self.contracts else "vector"
