"""The README's Python runs, top to bottom, as a reader would paste it, and its figures are true."""

import json
import math
import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text()


def test_python_blocks_run():
    blocks = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert blocks
    namespace: dict = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), namespace)
    assert namespace["derivation"].gain > 1.37


def test_ci_runs_the_test_command():
    """CI calls what the README tells the reader to call."""
    assert "make test" in TEXT
    assert "make test" in (README.parent / ".ci" / "run").read_text()


def test_the_text_says_what_the_picture_shows():
    file = README.parent / "benchmarks" / "results" / "depth.json"
    default, he, derived, critical = json.loads(file.read_text())["rows"]
    text = " ".join(TEXT.split())
    raised = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    for row, words in ((he, "about 10{}"), (default, "is 10{}")):
        power = str(round(math.log10(row["median"][-1])))
        assert words.format(power.translate(raised)) in text
    low, high = (round(derived[end][-1], -1) for end in ("lowest", "highest"))
    assert f"ends between {low:.0f} and {high:.0f}" in text
    activation = " ".join((README.parent / "docs" / "activation.md").read_text().split())
    ends = [f"{derived[end][19]:.2g}" for end in ("lowest", "highest")]
    assert f"between {ends[0]} and {ends[1]} after 20" in activation
    assert f"between {low:.0f} and {high:.0f} after 50" in activation
    low, high = math.floor(min(critical["lowest"])), math.ceil(max(critical["highest"]))
    assert f"stays between {low} and {high}" in text
