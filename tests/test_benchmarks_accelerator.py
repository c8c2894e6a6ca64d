"""The command for an accelerator: what it compares, and what it says if something fails."""

import functools
import itertools
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from scipy import special

import flaxinit
from benchmarks import __main__ as command, accelerator, agreement, rounding, store
from benchmarks.agreement import Check, Draw
from flaxinit.initializers import haar

KEY = jax.random.key(0)
SHAPE = (256, 64)


@pytest.mark.slow
def test_the_command_checks_and_times_everything(tmp_path, capsys, monkeypatch):
    # Its processes start with an empty cache, so that their times compare. Here they use the
    # tests' cache, because no time is asserted.
    kept = {name: value for name, value in os.environ.items() if name.startswith("JAX_")}
    started = functools.partial(accelerator.startup.in_fresh_process, **kept)
    monkeypatch.setattr(accelerator.startup, "in_fresh_process", started)
    assert command.main(["accelerator", "--size", "smoke", "--results", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "accelerator" / "cpu-smoke.json").read_text())
    assert record["environment"]["runtime"] and record["failed"] == []
    assert [*record["parts"]] == [title for title, _, _ in accelerator.PARTS]
    start, same, matrices, narrow, throughput, training = record["parts"].values()
    assert [row["what"] for row in start] == [
        "beside eager init, depth 1",
        "beside jit(init), depth 1",
    ]
    assert [row["what"] for row in same] == [*agreement.draws(16), "fast_init beside init"]
    # The device is the CPU.
    assert all(row["detail"].get("largest_difference", 0) == 0 for row in same)
    assert len(matrices) == sum(d.matrix is not None for d in agreement.draws(16).values())
    kinds = {row["what"] for row in narrow}
    assert {"bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"} <= kinds
    assert len(throughput) == 2 * 3 + 1 and len(training) == 1
    for row in itertools.chain(same, matrices, narrow, training):
        assert row["passed"] and 0 <= row["share"] <= 1
    assert "none failed" in capsys.readouterr().out


def test_every_initializer_is_compared():
    for name in flaxinit.__all__:
        getattr(flaxinit, name)  # all of them are imported on use
    assert flaxinit.recipes
    kinds, waiting = set(), [flaxinit.Initializer]
    while waiting:
        kinds.update(waiting)
        waiting = [kind for parent in waiting for kind in parent.__subclasses__()]
    compared = {type(draw.init) for draw in agreement.draws(8).values()}
    rest = {kind.__name__ for kind in kinds - compared}
    bases = {"AnyAxes", "Deterministic", "Entrywise", "Initializer", "OfUniform", "S4d"}
    assert {name for name in rest if name[0] != "_"} == bases


def test_what_fails_is_marked_and_the_rest_still_runs(tmp_path, monkeypatch):
    def broken(size):
        yield accelerator.attempt("no such kernel", lambda: 1 / 0)
        yield Check("too far", "2 apart", 2.0)
        yield Check("no number", "NaN", float("nan"), {"found": float("nan")})

    def fine(size):
        yield Check("exact", "equal", 0.0)

    monkeypatch.setattr(accelerator, "PARTS", (("First", "", broken), ("Second", "", fine)))
    console = Console(record=True, width=100)
    assert accelerator.run("smoke", tmp_path, console) == 1
    text = console.export_text()
    assert text.count("FAILED") == 4 and "4 checks, 3 FAILED" in text
    assert "ZeroDivisionError: division by zero" in text
    record = json.loads((tmp_path / "accelerator" / "cpu-smoke.json").read_text())
    assert record["failed"] == ["no such kernel", "too far", "no number"]
    assert [row["passed"] for row in record["parts"]["Second"]] == [True]


def test_a_platform_without_the_cpu_is_refused_at_once():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "accelerator"],
        cwd=store.ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cuda"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "append `,cpu`" in done.stderr


@pytest.mark.parametrize(
    "late, found",
    [
        ((), ["4.0× (2.00 s, 8.00 s)", "4.0× (2.00 s, 8.00 s)"]),
        (("jit(init)",), ["4.0× (2.00 s, 8.00 s)", "over 60.0× (2.00 s, over 120.00 s)"]),
        (("fast_init",), ["not done in 120 s"]),
        (("fast_init", "jit(init)"), ["not done in 120 s"]),
    ],
)
def test_a_method_that_takes_too_long_is_given_up(late, found, monkeypatch):
    def in_fresh_process(*arguments, limit, **environment):
        way = arguments[2]
        if way in late:
            raise subprocess.TimeoutExpired(way, limit)
        return {"seconds": 2.0 if way == "fast_init" else 8.0}

    monkeypatch.setattr(accelerator.startup, "in_fresh_process", in_fresh_process)
    assert [row.found for row in accelerator.start(accelerator.SIZES["smoke"])] == found


def test_a_method_that_fails_says_why(monkeypatch):
    started = accelerator.startup.in_fresh_process

    def in_fresh_process(*arguments, **options):
        return {"seconds": 2.0} if "fast_init" in arguments else started(*arguments, **options)

    monkeypatch.setattr(accelerator.startup, "in_fresh_process", in_fresh_process)
    monkeypatch.setattr(accelerator, "GOALS", {"nothing": "2×"})
    checks = list(accelerator.start(accelerator.SIZES["smoke"]))
    assert [check.passed for check in checks] == [False] and "KeyError" in checks[0].found


def changing(change):
    """Return an initializer; in call number `count`, `change(key, count)` says what it does."""
    calls = itertools.count()

    def init(key, shape, dtype):
        key, factor = change(key, next(calls))
        return factor * jax.random.normal(key, shape, dtype)

    return Draw(init, SHAPE)


@pytest.mark.parametrize(
    "change, passed, text",
    [
        (lambda key, count: (key, 1), True, "16,384 words alike; equal"),
        (lambda key, count: (jax.random.fold_in(key, count), 1), False, "OTHER RANDOM BITS"),
        (lambda key, count: (key, 1 + 1e-4 * count), False, "words alike"),
        (
            lambda key, count: (key, np.float32(1 + 2**-23 * (count % 2))),
            True,
            "words alike; 2 ulp",
        ),
        (lambda key, count: (key, np.nan), False, "words alike"),
    ],
)
def test_a_device_that_draws_something_else_is_caught(change, passed, text):
    found = agreement.compare("draw", changing(change), jax.devices()[1])
    assert found.passed == passed and text in found.found


def exact(init, u):
    """In float64, what an initializer makes of uniform multiples of 2⁻²³ in [0, 1)."""
    ends = {"normal": (-1 + 2.0**-24, 1), "truncated_normal": special.erf([-(2**0.5), 2**0.5])}
    if init == "chrono":
        return np.log(1 + u * 48)
    low, high = np.float32(ends[init])
    return 2**0.5 * special.erfinv(np.float64(np.float32(u * (high - low) + low)))


@pytest.mark.parametrize("init", ["normal", "truncated_normal", "chrono"])
def test_the_bound_of_rounding_holds_and_is_tight(init):
    """Half of it is for each device: the CPU may be as far from the exact value."""
    shape = (2**16,)
    made = {
        "normal": flaxinit.normal(1.0),
        "truncated_normal": lambda key, shape: jax.random.truncated_normal(key, -2, 2, shape),
        "chrono": lambda key, shape: flaxinit.chrono(50, order="fgoi")(key, (4 * shape[0],))[
            : shape[0]
        ],
    }[init]
    (words,) = rounding.random_bits(lambda key: made(key, shape), KEY)
    expected = exact(init, (np.asarray(words) >> 9) * 2.0**-23)
    values = np.asarray(made(KEY, shape), np.float64)
    bound = np.asarray(jax.jit(lambda key: rounding.spread(lambda k: made(k, shape), key))(KEY))
    assert np.all(np.abs(values - expected) <= bound / 2)
    middle = (np.abs(expected) > 0.5) & (np.abs(expected) < 1.5)
    assert np.max(bound[middle]) < 2.0**-23 * 256


def test_rounded_factors_of_products_are_caught(monkeypatch):
    """Matrix units keep 10 bits of float32's 23 unless they are asked not to."""
    draw = Draw(flaxinit.orthogonal(), (211, 307), matrix=(211, 307))  # no other test's shape

    def product(left, right):
        return jax.lax.reduce_precision(left, 8, 10) @ jax.lax.reduce_precision(right, 8, 10)

    monkeypatch.setattr(haar, "_product", product)
    found = agreement.orthogonality("draw", draw, jax.devices()[0])
    assert not found.passed and found.share < 1000


def test_what_is_not_known_to_be_accurate_is_not_bounded():
    def product(key):
        matrix = jax.random.normal(key, (4, 4))
        return matrix @ matrix

    with pytest.raises(ValueError, match="The accuracy of dot_general is not known"):
        rounding.spread(product, KEY)

    def sign_of_a_draw(key):
        return (jnp.exp(jax.random.normal(key, (4,))) > 1).astype("float32")

    with pytest.raises(ValueError, match="one may jump"):
        rounding.spread(sign_of_a_draw, KEY)


def test_bits_inside_of_calls_are_found():
    for draw in (flaxinit.orthogonal(), flaxinit.sparse(0.5)):
        words = rounding.random_bits(lambda key, draw=draw: draw(key, (16, 8)), KEY)
        assert sum(word.size for word in words) >= 16 * 8
