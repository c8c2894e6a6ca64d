"""Every example runs, and says what it shows."""

import os
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SAYS = {
    "audit_wrong_fan": "fan_in · Var W = 0.125, and 1 keeps the signal",
    "checkpoint_roundtrip": "every value is the same",
    "orthogonal_without_qr": "calls no library",
    "partial_checkpoint": "what the checkpoint has was not drawn",
    "sharded_train_state": "(256, 128) on each device, Adam's moments too",
}


def test_every_example_is_run():
    assert set(SAYS) == {path.stem for path in EXAMPLES.glob("*.py")}


@pytest.mark.parametrize("name", SAYS)
def test_an_example(name, capsys, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"])  # an example sets its own
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert SAYS[name] in capsys.readouterr().out
