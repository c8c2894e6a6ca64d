"""Measures the signal in a model, and holds it against the forecast of the theory."""

from flaxinit.compat import WHOLE, require

require("audit", **WHOLE)  # before what needs it is imported

from flaxinit.signal.audit import Audit as Audit, audit as audit
from flaxinit.signal.layer import Layer as Layer
