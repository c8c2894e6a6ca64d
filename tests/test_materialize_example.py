"""The example of a checkpoint runs, and reports that every value was restored."""

import runpy
from pathlib import Path

EXAMPLE = Path(__file__).parent.parent / "examples" / "checkpoint_roundtrip.py"


def test_checkpoint_roundtrip(capsys):
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "every value is the same" in capsys.readouterr().out
