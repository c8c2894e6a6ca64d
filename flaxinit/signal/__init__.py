"""The signal in a model: measured, and forecast from theory alone."""

from flaxinit.compat import WHOLE, require

require("audit and forecast", **WHOLE)  # before what needs it is imported

from flaxinit.signal.audit import Audit as Audit, audit as audit
from flaxinit.signal.forecast import forecast as forecast
from flaxinit.signal.layer import Layer as Layer
from flaxinit.signal.report import Forecast as Forecast, Report as Report, Sum as Sum
