"""Work that fast_init avoids: the forward pass, and compiling anything twice."""

import io
import sys
import threading

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P
from materialize_models import (
    TOKENS,
    WIDTH,
    Transformer,
    scaled_by_depth,
)
from rich.console import Console
from test_materialize_values import assert_same_bits

import flaxinit
from flaxinit.materialize import report
from flaxinit.materialize.flatten import flatten
from flaxinit.materialize.partition import partition
from flaxinit.materialize.trace import trace

KEY = jax.random.key(2)


@pytest.fixture
def compiled(monkeypatch):
    """List the lowered programs that are compiled, as text."""
    from jax.stages import Lowered

    texts, original = [], Lowered.compile

    def record(self, *args, **kwargs):
        texts.append(self.as_text())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Lowered, "compile", record)
    return texts


def test_depth_adds_no_compilation(compiled):
    counts = []
    for depth in (1, 4):
        before = len(compiled)
        flaxinit.fast_init(Transformer(depth).init)(KEY, TOKENS)
        counts.append(len(compiled) - before)
    # Negative control: a width that differs in one place does add compilations.
    assert counts[0] == counts[1] > 0
    before = len(compiled)
    flaxinit.fast_init(lambda key: (scaled_by_depth(key), jax.random.normal(key, (3, 3))))(KEY)
    wider = len(compiled) - before
    before = len(compiled)
    flaxinit.fast_init(scaled_by_depth)(KEY)
    assert len(compiled) - before < wider


def test_the_forward_pass_is_dropped(compiled):
    flaxinit.fast_init(Transformer().init)(KEY, TOKENS)
    assert not any("dot_general" in text or "tanh" in text for text in compiled)


def test_a_scale_for_each_layer_shares_one_sampler():
    reports = []
    flaxinit.fast_init(scaled_by_depth, report=reports.append)(KEY)
    (group,) = reports[0].groups
    assert group.draws == 5


def test_closures_that_are_equal_share_one_compilation():
    """JAX compares jitted functions by identity; here each layer has its own."""

    def layer(key):
        return jax.jit(lambda k: jax.random.normal(k, (4, 4)) * np.float32(2))(key)

    reports = []
    init = flaxinit.fast_init(
        lambda key: [layer(k) for k in jax.random.split(key, 4)], report=reports.append
    )
    init(KEY)
    assert [g.draws for g in reports[0].groups] == [4]


def test_the_second_call_compiles_nothing(compiled):
    init = flaxinit.fast_init(Transformer().init)
    init(KEY, TOKENS)
    compiled.clear()
    other = jax.random.key(3)
    second = init(other, TOKENS)
    assert not compiled
    assert_same_bits(second, Transformer().init(other, TOKENS))


def test_a_shape_is_enough_for_the_input():
    made = flaxinit.fast_init(Transformer().init)(
        KEY, jax.ShapeDtypeStruct(TOKENS.shape, TOKENS.dtype)
    )
    assert_same_bits(made, Transformer().init(KEY, TOKENS))


def test_every_draw_stands_alone():
    """One draw for each drawn parameter: none waits for another layer."""
    traced = trace(Transformer(3).init, (KEY, TOKENS), {})
    parts = partition(flatten(traced.jaxpr, traced.constants))
    assert len(parts.draws) == len(traced.paths)
    assert all(len(draw.outputs) == 1 for draw in parts.draws)


def test_the_largest_draw_comes_first():
    reports = []
    flaxinit.fast_init(Transformer().init, report=reports.append)(KEY, TOKENS)
    sizes = [g.bytes_per_device / g.draws for g in reports[0].groups]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[-1]


def test_report():
    mesh = jax.make_mesh((8,), ("model",))
    reports = []
    params = flaxinit.fast_init(
        lambda key: {"w": jax.random.normal(key, (8, WIDTH)), "b": jax.numpy.zeros(8)},
        NamedSharding(mesh, P("model")),
        report=reports.append,
    )(KEY)
    (report,) = reports
    assert [g.example for g in report.groups] == ["w", "b"]
    assert report.bytes_per_device == sum(x.nbytes // 8 for x in jax.tree.leaves(params))
    assert all(g.compile_seconds > 0 for g in report.groups)
    assert report.compile_processor_seconds > 0
    phases = (report.trace_seconds, report.compile_seconds, report.key_seconds, report.draw_seconds)
    assert min(phases) > 0 and sum(phases) < report.total_seconds
    text = io.StringIO()
    Console(file=text, width=100).print(report)
    assert "compile s" in text.getvalue() and "float32[8,16]" in text.getvalue()


def test_report_is_printed_once(capsys, monkeypatch):
    """By the first process; a function is called in each."""
    reports = []
    flaxinit.fast_init(scaled_by_depth, report=True)(KEY)
    assert "fast_init" in capsys.readouterr().out
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    flaxinit.fast_init(scaled_by_depth, report=True)(KEY)
    assert not capsys.readouterr().out
    flaxinit.fast_init(scaled_by_depth, report=reports.append)(KEY)
    assert len(reports) == 1


class Terminal(io.StringIO):
    """Tells when something has been written to it."""

    def __init__(self):
        super().__init__()
        self.written = threading.Event()

    def isatty(self):
        return True

    def write(self, text):
        self.written.set()
        return super().write(text)


def terminal(monkeypatch, patience):
    """Stands in for standard error; not a fixture, since pytest sets that anew for each test."""
    monkeypatch.setattr(report, "PATIENCE_SECONDS", patience)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    return sys.stderr


def test_a_long_initialization_shows_a_bar(monkeypatch):
    shown = terminal(monkeypatch, patience=0.0)
    with report.Progress(10, enabled=True) as bar:
        assert shown.written.wait(10)  # before anything is drawn, while programs are compiled
        bar.advance(4)
    text = shown.getvalue()
    assert "initializing: compiling" in text and "drawing" in text and "4/10 bytes" in text


@pytest.mark.parametrize(("patience", "wanted"), [(0.0, False), (60.0, True)])
def test_no_bar_is_shown(patience, wanted, monkeypatch):
    """None is shown if none is wanted, or if nobody has to wait."""
    shown = terminal(monkeypatch, patience)
    flaxinit.fast_init(scaled_by_depth, progress=wanted)(KEY)
    assert not shown.getvalue()


def test_the_bar_counts_what_is_drawn(monkeypatch):
    counted = []
    monkeypatch.setattr(report.Progress, "advance", lambda self, size: counted.append(size))
    made = flaxinit.fast_init(scaled_by_depth)(KEY)
    assert sum(counted) == sum(x.nbytes for x in made)


def test_draws_in_flight_are_bounded(monkeypatch):
    """With no room for two draws, each is waited for before the next is dispatched."""
    from flaxinit.materialize import execute

    waits = []
    original = jax.block_until_ready
    monkeypatch.setattr(execute, "IN_FLIGHT_BYTES", 1)
    monkeypatch.setattr(jax, "block_until_ready", lambda x: (waits.append(x), original(x))[1])
    flaxinit.fast_init(scaled_by_depth)(KEY)
    assert len(waits) == 5


def test_errors_after_a_trace_are_as_long_as_before():
    """Tracing shortens JAX's messages; afterwards they are whole, also if the trace failed."""
    with pytest.raises(TypeError, match="needs the value of an array"):
        flaxinit.fast_init(lambda key: jax.random.normal(key) > 0 and 1)(KEY)
    with pytest.raises(jax.errors.TracerBoolConversionError, match="while tracing the function"):
        jax.make_jaxpr(lambda x: 1 if x > 0 else 0)(1.0)


@pytest.mark.parametrize("idiom", ["index", "iteration"])
def test_programs_do_not_grow_with_the_number_of_split_keys(idiom, compiled):
    """One for the table, one for the draws; keys are taken out of the table without any."""

    def init(key, n):
        keys = jax.random.split(key, n)
        keys = keys if idiom == "iteration" else [keys[i] for i in range(n)]
        return [jax.random.normal(k, (16,)) for k in keys]

    for n in (3, 30):
        compiled.clear()
        assert len(flaxinit.fast_init(init)(KEY, n)) == n
        assert len(compiled) == 2
