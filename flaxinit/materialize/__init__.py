"""Materialize the parameters of a large model: traced once, each distinct draw compiled once."""

from flaxinit.compat import WHOLE, require

require("fast_init", **WHOLE)  # before what needs it is imported

from flaxinit.materialize.api import fast_init as fast_init
from flaxinit.materialize.report import Report as Report
