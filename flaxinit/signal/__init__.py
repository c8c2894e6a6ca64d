"""The signal in a model: forecast from theory alone, measured, judged and set.

- `reading`: a model as two programs (`model`), and the laws of its parameters (`laws`).
- `samples`: what is known of a signal, as a sample that stands for all draws.
- `rules`: what each operation makes of signals; `interpret` runs a program by them.
- `forecast`: the kernels and sums that a run met, in expectation over draws.
- `measuring`: the same of a model that has parameters.
- `audit`: a measurement beside its forecast.
- `reports`: both as a table, findings, a plot and a page.
- `tuning`: factors on kernels, from theory (`tune`) and from real inputs (`calibrate`).
"""

from flaxinit.versions.compat import WHOLE, require

require("audit and forecast", **WHOLE)  # before what needs it is imported

from flaxinit.signal.audit import audit as audit
from flaxinit.signal.forecast import forecast as forecast
from flaxinit.signal.measuring.measured import Measured as Measured
from flaxinit.signal.reports.report import Layer as Layer, Report as Report, Sum as Sum
from flaxinit.signal.tuning.calibrate import calibrate as calibrate
from flaxinit.signal.tuning.calibration import Calibration as Calibration
from flaxinit.signal.tuning.tune import Factors as Factors, Tuned as Tuned, tune as tune
