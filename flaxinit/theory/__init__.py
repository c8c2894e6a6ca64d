"""The engine: from an activation to an exact or certified gain."""

from flaxinit.theory.catalogue import CATALOGUE as CATALOGUE
from flaxinit.theory.derivation import Derivation as Derivation, derive as derive
from flaxinit.theory.enclosure import Diverges as Diverges, NotCertifiable as NotCertifiable
from flaxinit.theory.moment import Moment as Moment
from flaxinit.theory.rules import register_rule as register_rule
from flaxinit.theory.symbols import c as c, q as q, z as z
