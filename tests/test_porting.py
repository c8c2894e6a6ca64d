"""Each line of docs/porting.md is an initializer, with the variance of the other library's."""

import re
from pathlib import Path

import pytest

import flaxinit

PAGE = (Path(__file__).parents[1] / "docs" / "porting.md").read_text()
ROWS = [
    (theirs, ours)
    for theirs, ours in re.findall(r"^\| `(.+?)`.* \| `(.+)` \|$", PAGE, re.MULTILINE)
    if "(" in ours
]
KERNEL = 30, 20
# From the documentation of each library: the variance of a kernel of 30 inputs and 20 outputs.
CUT = 0.7737413035  # of the standard normal between -2 and 2, by 1 - 4φ(2)/(2Φ(2) - 1)
VARIANCES = {
    'kaiming_normal_(w, nonlinearity="relu")': 2 / 30,
    'kaiming_uniform_(w, nonlinearity="relu")': 2 / 30,
    "kaiming_normal_(w, a=0.2)": 2 / 1.04 / 30,
    'kaiming_normal_(w, mode="fan_out", nonlinearity="relu")': 2 / 20,
    "xavier_normal_(w)": 2 / 50,
    "xavier_uniform_(w, gain=1.5)": 2.25 * 2 / 50,
    "nn.Linear": 1 / 3 / 30,
    "nn.Embedding": 1,
    "trunc_normal_(w, std=0.02)": 0.02**2,
    "HeNormal()": 2 / 30,
    "LecunNormal()": 1 / 30,
    "GlorotNormal()": 2 / 50,
    "GlorotUniform()": 2 / 50,
    "RandomNormal(stddev=0.05)": 0.05**2,
    "RandomUniform(-0.05, 0.05)": 0.1**2 / 12,
    "TruncatedNormal(stddev=0.05)": CUT * 0.05**2,
    'VarianceScaling(2.0, "fan_out")': 2 / 20,
    "hk.initializers.VarianceScaling(2.0)": 2 / 30,
    "hk.Linear": CUT / 30,
    "hk.initializers.RandomNormal(0.02)": 0.02**2,
    "hk.initializers.TruncatedNormal(0.02)": CUT * 0.02**2,
}


@pytest.mark.parametrize(("theirs", "ours"), ROWS)
def test_a_line_is_an_initializer_of_that_variance(theirs, ours):
    init = eval(ours, {name: getattr(flaxinit, name) for name in flaxinit.__all__})
    assert isinstance(init, flaxinit.Initializer)
    if theirs in VARIANCES:
        assert init.variance(KERNEL) == pytest.approx(VARIANCES[theirs], rel=1e-9)


def test_every_variance_is_that_of_a_line():
    assert set(VARIANCES) <= {theirs for theirs, _ in ROWS}
