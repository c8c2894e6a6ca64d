"""Width transfer: what changes in a model when it grows, derived from its own program."""

from flaxinit.versions.compat import WHOLE, require

require("mup", **WHOLE)  # before what needs it is imported

from flaxinit.width.coord_check import coord_check as coord_check
from flaxinit.width.coordinates import CoordinateCheck as CoordinateCheck
from flaxinit.width.mup import mup as mup
from flaxinit.width.parametrization import Parametrization as Parametrization
