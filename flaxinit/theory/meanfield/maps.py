"""The mean-field theory of one activation: what one layer does, and where many layers lead."""

from functools import cached_property

import numpy as np

from flaxinit.theory.meanfield.criticality import Criticality, classify
from flaxinit.theory.meanfield.fixed_points import (
    Edge,
    FixedPoint,
    critical_line,
    depth_scales,
    edge_of_chaos,
    fixed_points,
)
from flaxinit.theory.meanfield.layer_maps import LayerMaps


class Maps(LayerMaps):
    """`derivation.maps`: the maps of one layer, their fixed points and criticality."""

    def fixed_points(self, sigma_w2: float, sigma_b2: float = 0.0) -> tuple[FixedPoint, ...]:
        """Return all variances that a layer keeps, with their stability.

        >>> from flaxinit.theory import derive
        >>> [point.stable for point in derive("tanh").maps.fixed_points(sigma_w2=1.5)]
        [False, True]
        """
        return fixed_points(self, sigma_w2, sigma_b2)

    def edge_of_chaos(self, sigma_b2: float = 0.0) -> Edge:
        """Return q* and σ_w² at which a layer keeps q* and has χ = 1 (Schoenholz et al. 2017).

        The result says whether q* is stable. Each layer multiplies the distance from q* by `slope`,
        so an unstable point is of little use in a deep network.

        >>> from flaxinit.theory import derive
        >>> q, sigma_w2 = derive("tanh").maps.edge_of_chaos()
        >>> q, sigma_w2, derive("gelu").maps.edge_of_chaos(0.1).stability
        (0.0, 1.0, 'unstable')
        """
        return edge_of_chaos(self, sigma_b2)

    def critical_line(self, q) -> np.ndarray:
        """Return the edge of chaos as a curve to plot: rows (q*, σ_w², σ_b²).

        >>> from flaxinit.theory import derive
        >>> derive("relu").maps.critical_line([1.0]).tolist()
        [[1.0, 2.0, 0.0]]
        """
        return critical_line(self, q)

    def depth_scales(self, sigma_w2: float, sigma_b2: float = 0.0) -> tuple[float, float]:
        """Return (ξ_q, ξ_c): the layers over which a variance, and a correlation, settle.

        >>> from flaxinit.theory import derive
        >>> derive("tanh").maps.depth_scales(sigma_w2=1.0)
        (inf, inf)
        """
        return depth_scales(self, sigma_w2, sigma_b2)

    @cached_property
    def criticality(self) -> tuple[Criticality, ...]:
        """Every critical pair of variances, each with its class (Roberts, Yaida & Hanin 2022).

        >>> from flaxinit.theory import derive
        >>> [point.exact for point in derive("gelu").maps.criticality]
        [3/2 + sqrt(17)/2]
        >>> [(point.kind, point.q) for point in derive("x**3 - 3*x").maps.criticality]
        [('K* = 0', 0.0), ('half-stable', 1.0)]
        """
        return classify(self)
