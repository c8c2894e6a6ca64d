"""The command: what it prints for people and for machines, and its errors for bad input."""

import json
import math
import os
import subprocess
import sys

import mpmath
import pytest

import flaxinit
from flaxinit.cli import main
from flaxinit.theory import CATALOGUE, derive


def run(capsys, *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def test_derive_prints_expression_moments_gains_and_code(capsys):
    printed = run(capsys, "derive", "gelu")
    words = printed.replace("\n", " ")
    assert repr(derive("gelu").gain) in words and repr(derive("gelu").backward_gain) in words
    assert "asin" in words and "erf" in words
    assert derive("gelu").second_moment.digits[:30] in words
    assert "kernel_init=flaxinit.he('gelu')" in words


def test_the_line_to_paste_is_code(capsys):
    line = run(capsys, "derive", "x * sigmoid(2 * x)").strip().splitlines()[-1]
    call = line[line.index("flaxinit.he(") : line.rindex(")")]
    kernel = eval(call, {"flaxinit": flaxinit})
    assert kernel == flaxinit.he("x * sigmoid(2 * x)")


def test_the_line_for_open_parameters_is_code(capsys):
    line = run(capsys, "derive", "x + a*x + b*x").strip().splitlines()[-1]
    call = line[line.index("flaxinit.he(") : line.rindex(")")]
    kernel = eval(call, {"flaxinit": flaxinit})
    assert kernel.scale == pytest.approx(1.2**-2, rel=1e-15)


def test_fixed_points_are_printed_line_by_line(capsys):
    printed = run(capsys, "meanfield", "tanh", "--sigma-w2", "1.5")
    assert "{" not in printed and "[" not in printed
    assert [line.split("  ")[0] for line in printed.splitlines()].count("fixed points") == 2
    _, point = derive("tanh").maps.fixed_points(1.5)
    assert f"q = {point.q:.6g}" in printed and f"χ = {point.chi:.6g}, stable" in printed


def test_infinite_depth_is_json(capsys):
    printed = run(capsys, "meanfield", "tanh", "--sigma-w2", "1", "--json")
    assert "Infinity" not in printed
    assert json.loads(printed)["depth scales"] == {"xi_q": None, "xi_c": None}


def test_version(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"flaxinit {flaxinit.__version__}\n"


def test_a_contradiction_is_a_message(capsys, monkeypatch):
    def contradicted(_):
        raise AssertionError("the closed form gives 1, rigorous integration 2")

    monkeypatch.setattr("flaxinit.theory.derive", contradicted)
    assert main(["derive", "relu"]) == 1
    assert "Please report it: the closed form gives 1" in capsys.readouterr().err


def test_a_function_in_a_module(capsys, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import jax.numpy as jnp\nclass A:\n    f = staticmethod(lambda x: x * jnp.tanh(x))\n"
        "def act(x):\n    return x * jnp.tanh(x)\n"
    )
    monkeypatch.chdir(tmp_path)
    for name in ("act", "A.f"):
        assert repr(derive("lisht").gain) in run(capsys, "derive", f"mine:{name}")
    sys.modules.pop("mine", None)


@pytest.mark.parametrize("failure", ["raise SystemExit(3)", "1 / 0", "import no_such_module", "("])
def test_a_module_that_cannot_be_imported_is_one_message(capsys, tmp_path, monkeypatch, failure):
    (tmp_path / "broken_module.py").write_text(failure)
    monkeypatch.chdir(tmp_path)
    assert main(["derive", "broken_module:f"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert "the module 'broken_module' cannot be imported" in said.err


def test_a_file_in_the_folder_hides_no_installed_module(capsys, tmp_path, monkeypatch):
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('hidden')\n")
    monkeypatch.chdir(tmp_path)
    assert main(["derive", "colorsys:no_such_function"]) == 2
    assert "colorsys has no 'no_such_function'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["-x", "-tanh(x)", "-gelu(-x) + 1"])
def test_a_formula_may_start_with_a_minus(capsys, text):
    facts = json.loads(run(capsys, "derive", text, "--json"))
    assert facts["name"] == text and facts["gain"] == derive(text).gain


def test_the_edge_of_chaos_is_printed_with_its_stability(capsys):
    assert "slope = 1.03742" in run(capsys, "meanfield", "gelu", "--sigma-b2", "0.1")
    edge = json.loads(run(capsys, "meanfield", "gelu", "--sigma-b2", "0.1", "--json"))
    assert edge["edge of chaos"]["stability"] == "unstable"


def test_every_critical_point_and_both_chi_are_printed(capsys):
    printed = run(capsys, "meanfield", "x**3 - 3*x")
    assert "K* = 0, q = 0" in printed and "half-stable, q = 1, exactly 1" in printed
    assert "χ = 0, χ of correlations = inf" in run(capsys, "meanfield", "sign", "--sigma-w2", "1")
    assert "critical points  none" in run(capsys, "meanfield", "sigmoid")


def test_json_holds_what_the_derivation_holds(capsys):
    facts = json.loads(run(capsys, "derive", "gelu", "--json"))
    d = derive("gelu")
    assert facts["gain"] == d.gain and facts["backward_gain"] == d.backward_gain
    assert facts["second_moment"]["exact"] == str(d.second_moment.exact)
    assert facts["second_moment"]["method"] == "closed form"


def test_json_of_a_step_is_json(capsys):
    printed = run(capsys, "derive", "step", "--json")
    assert "Infinity" not in printed and json.loads(printed)["backward_gain"] is None


def test_steps(capsys):
    assert run(capsys, "derive", "gelu", "--steps").strip() == derive("gelu").markdown().strip()


def test_the_table_holds_the_catalogue(capsys):
    rows = json.loads(run(capsys, "table", "--json"))
    assert [row["name"] for row in rows] == list(CATALOGUE)
    printed = run(capsys, "table")
    assert all(name in printed for name in CATALOGUE)
    for row in rows:
        d = derive(row["name"])
        backward = d.backward_gain if math.isfinite(d.backward_gain) else None
        assert (row["gain"], row["backward_gain"]) == (d.gain, backward)


@pytest.mark.slow
@pytest.mark.any_jax
def test_what_the_table_knows_is_what_is_derived(capsys):
    """All agrees except the last digits of certified bounds, which depend on SymPy's order."""
    known = json.loads(run(capsys, "table", "--json"))
    derived = json.loads(run(capsys, "table", "--derive", "--json"))
    for old, new in zip(known, derived, strict=True):
        for name in ("mean", "second_moment", "derivative_second_moment"):
            bounds = [each[name].pop("bounds") for each in (old, new)]
            if None in bounds:
                assert bounds[0] == bounds[1], (old["name"], name)
                continue
            (low, high), (lowest, highest) = (map(mpmath.mpf, pair) for pair in bounds)
            assert low <= highest and lowest <= high, (old["name"], name)
            for each in (old, new):
                each[name].pop("digits")
    assert derived == known, "run `make book`"


def test_the_table_derives_nothing():
    program = (
        "import sys, flaxinit.cli; flaxinit.cli.main(['table'])\n"
        "sys.exit('sympy' in sys.modules or 'jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


BAD = {
    "mistyped": (["derive", "gleu"], "did you mean"),
    "no module": (["derive", "no_such_module:f"], "no_such_module"),
    "no attribute": (["derive", "math:no_such_function"], "no_such_function"),
    "no function": (["derive", "math:pi"], "An activation must be"),
    "not of arrays": (["derive", "os:system"], "cannot be traced"),
    "not elementwise": (["derive", "jax.nn:softmax"], "elementwise"),
    "empty": (["derive", ""], "not an expression"),
    "half a path": (["derive", "jax.nn:"], "jax.nn"),
    "half a name": (["derive", ":relu"], "relu"),
    "infinite": (["derive", "exp(x**2)"], "infinite"),
    "below zero": (["meanfield", "tanh", "--sigma-b2", "-1"], "sigma_b2, a variance, must be"),
    "leaves": (["derive", "sys:exit"], "cannot be traced"),
    "no edge": (["meanfield", "sign", "--sigma-b2", "0.1"], "no edge of chaos"),
    "code": (["derive", "__import__('os').system('true')"], "Formula"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_answered_in_one_message(capsys, name):
    arguments, message = BAD[name]
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == "" and message in said.err and "Traceback" not in said.err


@pytest.mark.parametrize("arguments", [[], ["derive"], ["nothing"], ["derive", "relu", "--plot3"]])
def test_a_wrong_call_prints_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2 and "usage: flaxinit" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["table"], ["derive", "relu", "--json"]])
def test_a_reader_that_has_enough_is_no_error(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        command = [sys.executable, "-m", "flaxinit", *arguments]
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (1, b"")


# This is how the console script of an installed package starts.
RUN = "import sys; from flaxinit.cli import main; sys.exit(main())"


@pytest.mark.parametrize("program", [["-c", RUN], ["-m", "flaxinit"]])
def test_the_installed_command_runs(program):
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, *program, "derive", "relu"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "1.4142135623730951" in done.stdout
