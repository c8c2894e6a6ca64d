"""The signal in a model: measured, and forecast from theory alone.

`audit` runs a model on real parameters (`interpreter`, `layer`). `forecast` runs its program on
samples (`signals`, with sizes from `limits`) that stand for all draws:

    model -> two programs (model) -> laws of the parameters (laws) -> apply's program (interpret)
          -> kernels and sums that were met (forecast) -> a table (report)

`interpret` has a rule for each operation: `elementwise`, `movement`, `reduction`, `assembly`,
`along`, `lookup`, `products`; `meeting` and `kernels` where a signal meets weights, `tied` and
`gradients` beside them; `fallback` for the rest.
"""

from flaxinit.compat import WHOLE, require

require("audit and forecast", **WHOLE)  # before what needs it is imported

from flaxinit.signal.audit import audit as audit
from flaxinit.signal.calibrate import Calibration as Calibration, calibrate as calibrate
from flaxinit.signal.forecast import forecast as forecast
from flaxinit.signal.measured import Measured as Measured
from flaxinit.signal.report import Layer as Layer, Report as Report, Sum as Sum
from flaxinit.signal.tune import Factors as Factors, Tuned as Tuned, tune as tune
