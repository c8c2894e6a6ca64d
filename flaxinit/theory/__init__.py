"""The engine: from an activation to an exact or certified gain."""

from flaxinit.catalogue import CATALOGUE as CATALOGUE
from flaxinit.theory.derivation import Derivation as Derivation
from flaxinit.theory.engine import derive as derive
from flaxinit.theory.functions.symbols import c as c, q as q, z as z
from flaxinit.theory.moments.enclosure import Diverges as Diverges, NotCertifiable as NotCertifiable
from flaxinit.theory.moments.moment import Moment as Moment
from flaxinit.theory.reading.rules import register_rule as register_rule

__all__ = [
    "CATALOGUE",
    "Derivation",
    "Diverges",
    "Moment",
    "NotCertifiable",
    "c",
    "derive",
    "q",
    "register_rule",
    "z",
]


def __dir__():
    return __all__
