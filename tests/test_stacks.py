"""Versions are named in one table; an error of one sentence says which one is too old."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import stacks

from flaxinit.versions import compat

ROOT = Path(__file__).parents[1]


def minor(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")[:2]))


def test_the_documents_name_the_versions():
    assert stacks.markdown() in (ROOT / "docs/support.md").read_text()
    assert stacks.sentence() in " ".join((ROOT / "README.md").read_text().split())


def test_lower_bounds_are_the_lowest_stacks():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = dict(text.split(">=") for text in project["dependencies"])
    first = stacks.STACKS[0]
    assert minor(bounds["jax"]) == minor(first.jax) and minor(bounds["flax"]) == minor(first.flax)
    lowest = min((stack.python for stack in stacks.STACKS), key=minor)
    assert project["requires-python"] == f">={lowest}"
    assert minor(compat.WHOLE["jax"]) == minor(stacks.LOWEST.jax)
    assert compat.WHOLE["flax"] == stacks.LOWEST.flax
    assert list(stacks.STACKS) == sorted(stacks.STACKS, key=lambda stack: minor(stack.jax))


def test_the_workflow_runs_every_stack():
    script = [sys.executable, ROOT / "tests" / "stacks.py"]
    made = json.loads(subprocess.check_output([*script, "matrix"], text=True))
    assert [row["jax"] for row in made["include"]] == [stack.jax for stack in stacks.STACKS]
    assert "tests/stacks.py matrix" in (ROOT / ".github/workflows/ci.yml").read_text()
    unknown = subprocess.run([*script, "jax", "0.1"], capture_output=True, text=True)
    assert unknown.returncode == 2 and "0.12" in unknown.stdout


def test_the_files_of_a_part_exist():
    assert all((ROOT / path).exists() for path in stacks.PART)


@pytest.mark.parametrize(
    ("versions", "chosen"),
    [
        (["3.9", "3.12"], ["3.12"]),
        (["3.11", "3.9", "3.13", "3.12"], ["3.11", "3.13"]),
        (["3.8"], []),
    ],
)
def test_the_lowest_and_the_newest_python_are_run(versions, chosen, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "sort", "awk", "grep", "head", "tail", "dirname"):
        found = shutil.which(name)
        assert found, name
        (tools / name).symlink_to(found)
    for version in versions:
        python = tmp_path / "versions" / f"{version}.1" / "bin" / "python"
        python.parent.mkdir(parents=True)
        says = f'echo "{version} $0"' if minor(version) >= (3, 11) else "exit 0"
        python.write_text(f"#!/bin/sh\n{says}\n")
        python.chmod(0o755)
    result = subprocess.run(
        [tools / "bash", ROOT / ".ci" / "run"],
        env={**os.environ, "PATH": str(tools), "PYENV_ROOT": str(tmp_path), "DRY": "1"},
        capture_output=True,
        text=True,
    )
    assert (result.returncode == 0) == bool(chosen)
    assert re.findall(r"^(?:One Python was found|Python),? ([\d.]+)", result.stdout, re.M) == chosen


def test_a_file_for_any_jax_does_not_use_it():
    files = {path: path.read_text() for path in (ROOT / "tests").glob("test_*.py")}
    marked = [path for path, text in files.items() if "\npytestmark = pytest.mark.any_jax" in text]
    assert marked
    for path in marked:
        assert not re.search(r"^ *(import|from) (jax|flax)\b", files[path], re.M), path


@pytest.mark.parametrize(
    ("package", "installed"), [("jax", "0.9.2"), ("jax", "0.4.38"), ("flax", "0.10.6")]
)
def test_what_is_too_old_is_one_sentence_with_the_line_to_type(package, installed, monkeypatch):
    versions = {"jax": "0.12.0.1", "flax": "0.12.12", package: installed}
    monkeypatch.setattr(compat, "have", versions.__getitem__)
    with pytest.raises(ImportError) as refused:
        compat.require("fast_init", **compat.WHOLE)
    assert str(refused.value) == (
        f"fast_init needs {package} {compat.WHOLE[package]} or later, but {installed} is "
        'installed. Run: pip install -U "jax>=0.10" "flax>=0.12.8"'
    )


@pytest.mark.parametrize("installed", ["0.10", "0.10.0", "0.12.0.1", "1.0.0", "0.10.3.dev20270101"])
def test_what_is_new_enough_is_let_in(installed, monkeypatch):
    monkeypatch.setattr(compat, "have", {"jax": installed, "flax": "0.13.0"}.__getitem__)
    compat.require("fast_init", **compat.WHOLE)
