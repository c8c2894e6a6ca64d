"""Reports as tables, JSON, plots and pages, and the command that makes them."""

import fnmatch
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax import nnx

import flaxinit
from flaxinit.cli import main
from flaxinit.signal.reports.table import MEANINGS
from flaxinit.signal.tuning.calibration import Calibrated, Calibration
from flaxinit.signal.tuning.tune import Factor, Factors


class Deep(nn.Module):
    depth: int = 3
    kernel: object = flaxinit.he()

    @nn.compact
    def __call__(self, x):
        for n in range(self.depth):
            x = nn.Dense(64, kernel_init=self.kernel)(nn.relu(x) if n else x)
        return x


class Head(nnx.Module):
    def __init__(self, rngs):
        self.table = nnx.Embed(50, 64, rngs=rngs)
        self.out = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, tokens):
        return self.out(self.table(tokens))


X = jax.random.normal(jax.random.key(0), (16, 64))


def audit(model):
    return flaxinit.audit(model.apply, model.init(jax.random.key(1), X), X)


@pytest.fixture(scope="module")
def sick():
    return audit(Deep(20, flaxinit.lecun()))


def test_a_hundred_layers_are_one_row():
    printed = str(flaxinit.forecast(Deep(100), X, particles=256))
    assert "params/Dense_{0..99}/kernel" in printed
    assert len(printed.splitlines()) < 20


def test_long_tables_of_factors_fold_what_repeats():
    def factor(n, why):
        return Factor(f"params/layers_{n}/kernel", (64, 64), 1 + n / 100, why)

    rows = [*(factor(n, "ends a branch") for n in range(48)), factor(48, "is zero")]
    lines = [line.split() for line in str(Factors(tuple(rows))).splitlines() if "params" in line]
    assert [line[0] for line in lines] == [
        "params/layers_{0..47}/kernel",
        "params/layers_48/kernel",
    ]
    assert lines[0][2] == "1→1.47"
    assert str(Factors(tuple(rows[:40]))).count("params") == 40
    steps = [Calibrated(f"w[{n}]", (8, 8), 2.0, 1.0, 0.5, "why") for n in range(41)]
    (line,) = [line for line in str(Calibration(tuple(steps))).splitlines() if "w[" in line]
    assert line.split() == ["w[{0..40}]", "(8,8)", "2", "1", "0.5", "why"]


@pytest.mark.parametrize("width", [80, 120, 400])
def test_a_table_fits_its_terminal_and_keeps_its_paths(sick, width):
    from rich.console import Console

    file = io.StringIO()
    Console(file=file, width=width).print(sick)
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert sum("params/Dense_" in line and "/kernel " in line for line in lines) >= 20
    assert any("html() or --html FILE has them" in line for line in lines) == (width < 400)


def test_json_has_every_number_and_finding(sick):
    data = json.loads(sick.to_json())
    assert len(data["layers"]) == 20
    layer = data["layers"][-1]
    assert layer["measured"]["signal_out"] == pytest.approx(sick.layers[-1].measured.signal_out)
    assert {"path", "fan_in", "sigma_w2", "signal_out", "band", "findings"} <= set(layer)
    assert data["findings"][0]["what"] == "vanishing signal"
    assert "NaN" not in sick.to_json()


def test_a_plot_is_an_image(sick, tmp_path):
    sick.plot(tmp_path / "signal.png")
    assert (tmp_path / "signal.png").read_bytes()[:4] == b"\x89PNG"


def test_a_page_is_whole_and_needs_no_network(sick, tmp_path):
    sick.html(tmp_path / "signal.html")
    text = (tmp_path / "signal.html").read_text("utf-8")
    assert "http" not in text and "<script" not in text
    assert "prefers-color-scheme" in text and "width=device-width" in text
    body = text[text.index("<main>") : text.index("</body>")]
    page = ET.fromstring(body)  # every tag is closed
    assert len(page.findall(".//figure")) == 2
    assert len(page.findall(".//tbody/tr")) == 20
    # A dot for each kernel in each figure.
    assert len(page.findall(".//circle")) == 40
    assert "kernel_init=flaxinit.he(&quot;relu&quot;)" in text
    headings = [cell.text for cell in page.findall(".//th")]
    assert headings == [term.text for term in page.findall(".//dt")]
    assert headings[:2] == ["kernel", "finding"]


def test_the_guide_explains_every_column():
    guide = (Path(__file__).parents[1] / "docs" / "models.md").read_text("utf-8")
    assert [name for name in MEANINGS if f"`{name}`" not in guide] == ["kernel"]


def test_names_from_a_model_do_not_become_tags(tmp_path):
    report = flaxinit.audit(lambda p, v: v @ p["<b>"], {"<b>": np.ones((64, 4), np.float32)}, X)
    report.html(tmp_path / "x.html")
    assert "<b>" not in (tmp_path / "x.html").read_text("utf-8")


def test_the_command_audits_linen_and_nnx(capsys, tmp_path):
    name = __name__
    assert main(["audit", f"{name}:Deep", "--input", "16,64"]) == 0
    assert "Dense_2/kernel" in capsys.readouterr().out
    page = str(tmp_path / "x.html")
    arguments = ["--nnx", "--input", "4,16:int32<50", "--json", "--html", page]
    main(["audit", f"{name}:Head", *arguments])
    (layer,) = json.loads(capsys.readouterr().out)["layers"]
    assert layer["path"] == "out/kernel" and layer["sigma_w2_wanted"] == pytest.approx(1, rel=0.01)
    assert (tmp_path / "x.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Deep", "--input", "4,a"], "is no input. Write a shape"),
        (["Deep", "--input", "4:int32"], "integers need a bound"),
        (["Deep", "--input", "4<9:int32"], "is no input"),
        (["Deep", "--input", "4:float32<9"], "a bound is for integers"),
        (["Deep", "--input", "4:flaot"], "flaot is no dtype"),
        (["Head", "--input", "4"], "add --nnx"),
        (["Deep", "--nnx", "--input", "4"], "leave --nnx out"),
        (["Nothing", "--input", "4"], "has no 'Nothing'"),
        (["Deep", "--input", ""], "'' is no input. Write a shape"),
        (["Deep", "--input", "4:bool"], "inputs are floats or integers, not bool"),
        (["Deep", "--input", "4:complex64"], "inputs are floats or integers, not complex64"),
        (["Head", "--nnx", "--input", "4:int32<0"], "For int32, write one from 1 to 2147483647"),
        (["Head", "--nnx", "--input", "4:int8<128"], "For int8, write one from 1 to 127"),
        (["Head", "--nnx", "--input", "4:int64<2147483648"], "from 1 to 2147483647"),
        (["Head", "--nnx", "--input", "4:int8"], "integers need a bound, such as 4:int8<127"),
        (["head", "--nnx", "--input", "4"], "head is an instance of Head. With --nnx, name a"),
        (["X", "--nnx", "--input", "4"], "With --nnx, name a class or a function of nnx.Rngs"),
        (["built", "--nnx", "--input", "4"], "built returns an instance of list"),
    ],
)
def test_the_command_says_what_it_needs(arguments, message, capsys):
    model, *rest = arguments
    assert main(["audit", f"{__name__}:{model}", *rest]) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


class Raising(nn.Module):
    """A model of a user, which raises what its form says."""

    form: str = "argument"

    @nn.compact
    def __call__(self, x):
        if self.form == "key":
            raise KeyError("gone")
        if self.form == "assert":
            raise AssertionError("rank\nof x\n\nand more")
        if self.form == "tokens":
            x = nn.Embed(9, 4)(x)
        elif self.form == "streams":
            x = x + jax.random.normal(self.make_rng("noise"), x.shape)
        return nn.Dense(3)(x)


class Dropping(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(nn.Dense(8)(x)))


class Wide(nn.Module):
    width: int
    depth: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.width)(x)


class WideHead(nnx.Module):
    def __init__(self, *, width, rngs):
        self.linear = nnx.Linear(8, width, rngs=rngs)


class Unbuilt(nnx.Module):
    def __init__(self, rngs):
        raise KeyError("gone")


by_key, by_assert, tokens, noisy = map(Raising, ("key", "assert", "tokens", "streams"))
head, built = Head(nnx.Rngs(0)), lambda rngs: []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Dropping", "--train"], "Dropping raises InvalidRngError: * Add --rngs dropout.\n"),
        (["noisy", "--rngs", "x"], "noisy raises InvalidRngError: * Add --rngs x,noise.\n"),
        (
            ["by_key", "--train"],
            "by_key raises TypeError: * argument 'train'. Leave --train out.\n",
        ),
        (["by_key"], "by_key raises KeyError: 'gone'.\n"),
        (["by_assert"], "by_assert raises AssertionError: rank of x.\n"),
        (["tokens"], "tokens raises ValueError: * --input '4,8:int32<100', below the *.\n"),
        (
            ["Wide"],
            "Wide raises *. The command gives none: write `net = Wide(width=..., depth=...)`*",
        ),
        (["WideHead", "--nnx"], "*: write `def net(rngs): return WideHead(width=..., rngs=rngs)`*"),
        (["Unbuilt", "--nnx"], "Unbuilt raises KeyError: 'gone'.\n"),
        (["Head", "--nnx"], "Head raises *Error: * --input '4,8:int32<100', below the *.\n"),
    ],
)
def test_what_a_model_raises_is_one_line(arguments, message, capsys):
    """And exit status 2: 1 would say that there is a finding."""
    model, *rest = arguments
    assert main(["audit", f"{__name__}:{model}", "--input", "4,8", *rest]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and fnmatch.fnmatchcase(said, f"flaxinit: {__name__}:{message}")


def test_a_stream_that_is_named_is_there(capsys):
    arguments = ["--input", "4,8", "--train", "--rngs", "dropout"]
    assert main(["audit", f"{__name__}:Dropping", *arguments]) in (0, 1)
    assert "Dense_1/kernel" in capsys.readouterr().out


def test_a_defect_of_an_audit_is_not_laid_on_the_model(monkeypatch):
    def broken(*_, **__):
        raise KeyError("a defect")

    monkeypatch.setattr(flaxinit, "audit", broken)
    with pytest.raises(KeyError, match="a defect"):
        main(["audit", f"{__name__}:Deep", "--input", "16,64"])


def test_a_mean_of_few_values_is_marked():
    """Two kernels make channels whose products are summed: one value in each replica."""

    def init(key, x):
        shapes = {"one": (16, 1024), "other": (16, 1024), "last": (1, 8)}
        keys = dict(zip(shapes, jax.random.split(key, len(shapes)), strict=True))
        return {name: flaxinit.lecun()(keys[name], shape) for name, shape in shapes.items()}

    def apply(p, x):
        products = (x @ p["one"]) * (x @ p["other"])
        return products.sum(-1, keepdims=True) / 32 @ p["last"]

    model, x = (init, apply), jax.random.normal(jax.random.key(0), (2, 16))
    report = flaxinit.forecast(model, x, particles=2**14)
    *firsts, last = report.layers
    assert all(layer.chance < 1 / 64 for layer in firsts)
    # 16 replicas have a sum each, which is as good as Gaussian, at two samples.
    assert last.chance == pytest.approx((2 / 16) ** 0.5, rel=3 / 16**0.5)
    rows = {line.split()[0]: line for line in str(report).splitlines() if line.strip()}
    assert "≈" in rows["last"] and not any("≈" in rows[name] for name in ("one", "other"))
    assert "≈ of last: a mean of few values" in " ".join(str(report).split())
    many = flaxinit.forecast(model, x, particles=2**20)
    assert many.layers[-1].chance < 1 / 16 and "≈" not in str(many)


LOWER = np.tril(np.ones((64, 64), np.float32))


@pytest.mark.parametrize(("mask", "uneven"), [(LOWER, True), (LOWER[:, :1], False)])
def test_a_filter_of_many_variances_is_named(mask, uneven):
    """Rows of one size each are read, a triangle is not."""

    def init(key, x):
        return flaxinit.lecun()(key, (3, 64, 64)), flaxinit.lecun()(key, (64, 8))

    def apply(p, x):
        axes = ("NTC", "TIO", "NTC")
        y = jax.lax.conv_general_dilated(x, p[0] * mask, (1,), "SAME", dimension_numbers=axes)
        return jax.nn.relu(y) @ p[1]

    x = jax.ShapeDtypeStruct((4, 6, 64), "float32")
    report = flaxinit.forecast((init, apply), x)
    assert [layer.uneven for layer in report.layers] == [uneven, False]
    assert ("variances differ between entries of" in str(report)) == uneven
