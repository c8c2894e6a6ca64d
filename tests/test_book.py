"""The proof book: its pages are complete, proven, current, and cannot be proven when wrong."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import derivations
from derivations import render
from derivations.__main__ import PAGES, main
from derivations.page import StepError
from derivations.table import nearest
from flaxinit.catalogue import MOMENTS

pytestmark = pytest.mark.any_jax

ROOT = Path(derivations.__file__).parent.parent


@pytest.mark.parametrize("name", derivations.names())
def test_rendered_page_is_current(name):
    """The committed Markdown is what the page writes today, and every step of it holds."""
    page = derivations.write(name)
    assert (PAGES / f"{name}.md").read_text() == render.markdown(page), (
        "run `python -m derivations`"
    )
    if page.kind == "activation":
        # The library's table is the book's; the engine is held against it in test_theory_catalogue.
        row = tuple(map(nearest, derivations.bounds(page)))
        assert MOMENTS[name] == row, "run `python -m derivations`"
    for moment in getattr(page, "moments", {}).values():
        assert moment.upper - moment.lower < 1e-32 * max(1, abs(moment.upper))


def test_every_page_is_listed_and_rendered():
    assert set(derivations.ACTIVATIONS) == set(MOMENTS)
    for room in ("activations", "theorems"):
        modules = {path.stem for path in (ROOT / "derivations" / room).glob("*.py")} - {"__init__"}
        listed = derivations.ACTIVATIONS if room == "activations" else derivations.THEOREMS
        assert modules == set(listed)
    assert {path.stem for path in PAGES.glob("*.md")} - {"index"} == set(derivations.names())
    assert {path.stem for path in PAGES.glob("plots/*.png")} == set(derivations.ACTIVATIONS)


def test_the_table_of_contents_is_current():
    headings = {
        name: (PAGES / f"{name}.md").read_text().partition("\n")[0].removeprefix("# ")
        for name in derivations.names()
    }
    listed = re.findall(r"- \[(\w+)\]\(\w+\.md\): (.*)", (PAGES / "index.md").read_text())
    assert listed == list(headings.items()), "run `python -m derivations`"


@pytest.mark.parametrize(
    ("name", "right", "wrong", "step"),
    [
        ("relu", "q / 2, ", "q / 3, ", "(3)"),
        ("leaky_relu", "(1 + a**2) / 2,", "(1 - a**2) / 2,", "(11)"),
        ("hard_swish", "q**2 / 12", "q**2 / 11", "(17)"),
        ("x_cos", "(1 - 4 * q) * E(", "(1 - 3 * q) * E(", "(6)"),
        ("isru", "1 - one.rhs,", "2 - one.rhs,", "(13)"),
        ("silu", "sigma(x) * (1 - sigma(x)),", "sigma(x) * (1 + sigma(x)),", "(1)"),
        ("gelu", "+ 2 * q * E(", "+ 3 * q * E(", "(14)"),
        ("selu", "tail(2) - 2 * tail(1)", "tail(2) - 3 * tail(1)", "(11)"),
        ("tanh", "1 - sp.tanh(x) ** 2", "1 - sp.tanh(x) ** 3", "(1)"),
        ("tanh", "{sp.tanh(x): sp.S.One}", "{sp.tanh(x): sp.Rational(1, 2)}", "(9)"),
    ],
)
def test_one_wrong_coefficient_stops_the_page(name, right, wrong, step):
    """Negative control: the page does not render, and the error names the page and the step."""
    source = inspect.getsource(importlib.import_module(f"derivations.activations.{name}"))
    assert source.count(right) == 1
    namespace: dict = {}
    exec(compile(source.replace(right, wrong), name, "exec"), namespace)
    with pytest.raises(StepError) as failure:
        namespace["write"]()
    assert f"page {name!r}, step {step} is not proven" in str(failure.value)


def test_book_is_independent_of_the_library():
    """No module of the book imports the library; this is what makes it a second route."""
    code = (
        "import sys, derivations, derivations.__main__, derivations.figure;"
        "[derivations.write(n) for n in ('relu', 'gelu')];"
        "sys.exit(any(m.split('.')[0] in ('flaxinit', 'jax', 'flax') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_unknown_page_names_the_nearest():
    with pytest.raises(ValueError, match="'gelu'"):
        derivations.write("gelo")


def test_unwritable_output_is_reported_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="cannot write into the output folder"):
        main(["relu", "--output", str(tmp_path / "file" / "pages")])


def test_check_writes_nothing(tmp_path, capsys):
    main(["relu", "--check", "--output", str(tmp_path / "pages")])
    assert "steps" in capsys.readouterr().out
    assert not (tmp_path / "pages").exists()


def test_one_page_goes_to_terminal_and_file(tmp_path, capsys):
    main(["relu", "--output", str(tmp_path)])
    assert "ReLU" in capsys.readouterr().out
    assert (tmp_path / "relu.md").read_text() == (PAGES / "relu.md").read_text()
    assert (tmp_path / "plots" / "relu.png").read_bytes().startswith(b"\x89PNG")


def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "page.md"
    target.write_text("old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        render.put(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
