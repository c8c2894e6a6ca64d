"""The mean-field maps of a wide network: how a signal and its gradients pass a layer.

References:
    Poole, Lahiri, Raghu, Sohl-Dickstein & Ganguli (2016).
    Schoenholz, Gilmer, Ganguli & Sohl-Dickstein (2017), Deep Information Propagation.
"""

from dataclasses import dataclass

from flaxinit.theory.moment import Moment


@dataclass(frozen=True)
class Maps:
    """The maps of one activation, from its two moments."""

    second_moment: Moment
    derivative_second_moment: Moment

    def qmap(self, q: float, sigma_w2: float, sigma_b2: float = 0.0) -> float:
        """q ↦ σ_w² E[φ(√q z)²] + σ_b²."""
        return sigma_w2 * self.second_moment.at(q) + sigma_b2

    def chi(self, q: float, sigma_w2: float) -> float:
        """χ = σ_w² E[φ'(√q z)²]."""
        return sigma_w2 * self.derivative_second_moment.at(q)
