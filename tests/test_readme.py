"""The README's Python runs, top to bottom, as a reader would paste it."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_python_blocks_run():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert blocks
    namespace: dict = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), namespace)
    assert namespace["derivation"].gain > 1.37


def test_ci_runs_the_test_command():
    """CI calls what the README tells the reader to call."""
    assert "make test" in README.read_text()
    assert "make test" in (README.parent / ".ci" / "run").read_text()
