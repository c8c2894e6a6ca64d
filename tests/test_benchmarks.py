"""The benchmark harness: small runs that must be right, resumable and repeatable."""

import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest
from rich.console import Console

from benchmarks import (
    __main__ as command,
    data,
    experiments,
    harness,
    report,
    store,
    summary,
    techniques,
)

TINY = harness.Unit(
    activation="relu",
    techniques=("normal", "he"),
    learning_rates=(0.01,),
    seeds=(0, 1),
    depth=4,
    width=16,
    steps=20,
)


@pytest.fixture
def console():
    return Console(record=True, width=120)


@pytest.fixture(scope="module")
def trained():
    return harness.train(TINY)


def test_digits_have_unit_second_moment_and_disjoint_parts():
    digits = data.digits()
    assert len(digits.train_labels) + len(digits.test_labels) == 1797
    # Exact by construction, up to float32 sums.
    assert np.mean(digits.train_inputs.astype(float) ** 2) == pytest.approx(1, rel=1e-6)
    assert digits.label_entropy <= math.log(digits.classes)
    train = {row.tobytes() for row in digits.train_inputs}
    assert not train & {row.tobytes() for row in digits.test_inputs}


def test_one_seed_gives_one_set_of_numbers(trained):
    assert harness.train(TINY)["runs"] == trained["runs"]


def test_a_run_does_not_depend_on_what_is_trained_beside_it(trained):
    alone = harness.train(dataclasses.replace(TINY, techniques=("he",), seeds=(1,)))
    (run,) = alone["runs"]
    (same,) = [r for r in trained["runs"] if r["technique"] == "he" and r["seed"] == 1]
    assert run["first_gradient"] == pytest.approx(same["first_gradient"], rel=1e-4)
    assert run["loss"] == pytest.approx(same["loss"], rel=1e-3)


def test_the_loop_is_a_plain_optax_loop(trained):
    """The first steps of one run, written out without batching or scanning."""
    digits, he = data.digits(), techniques.TECHNIQUES["he"]
    network = harness._network(TINY, digits, he)
    key = jax.random.key(1)
    params = network.init(key, digits.train_inputs[:1])
    optimizer = optax.sgd(0.01, momentum=0.9)

    @jax.jit
    @jax.value_and_grad
    def value_and_gradient(params, inputs, labels):
        logits = network.apply(params, inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    state, losses = optimizer.init(params), []
    for step in range(TINY.window):
        chosen = jax.random.randint(
            jax.random.fold_in(key, step), (TINY.batch_size,), 0, len(digits.train_labels)
        )

        batch = digits.train_inputs[np.asarray(chosen)], digits.train_labels[np.asarray(chosen)]
        value, gradient = value_and_gradient(params, *batch)
        updates, state = optimizer.update(gradient, state)
        params = optax.apply_updates(params, updates)
        losses.append(float(value))
    (run,) = [r for r in trained["runs"] if r["technique"] == "he" and r["seed"] == 1]
    assert run["loss"][0] == pytest.approx(np.mean(losses), rel=1e-3)


def test_the_last_gradient_is_as_computed_by_hand(trained):
    """The gradient at the logits is `softmax(logits) - onehot(label)`, for every example."""
    digits = data.digits()
    network = harness._network(TINY, digits, techniques.TECHNIQUES["he"])
    params = network.init(jax.random.key(0), digits.train_inputs[:1])
    logits = np.asarray(network.apply(params, digits.train_inputs[:128]), dtype=float)
    delta = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    delta[np.arange(128), digits.train_labels[:128]] -= 1
    (run,) = [r for r in trained["runs"] if r["technique"] == "he" and r["seed"] == 0]
    assert run["last_gradient"] == pytest.approx(np.sqrt((delta**2).sum(-1).mean()), rel=1e-4)


def test_a_broken_technique_is_reported_as_never_learned(monkeypatch, console):
    """The negative control: kernels of zeros pass neither signal nor gradient."""
    zeros = techniques.Technique.everywhere("Zeros", jax.nn.initializers.zeros)
    monkeypatch.setitem(techniques.TECHNIQUES, "zeros", zeros)
    unit = dataclasses.replace(TINY, techniques=("zeros", "he"), steps=60, width=32)
    record = harness.train(unit)
    broken, he = summary.rows([record])
    assert broken.never_learned.all() and not he.never_learned.any()
    assert np.isinf(broken.gradient_ratio).all() and np.isfinite(he.gradient_ratio).all()
    assert summary.finding([record]).startswith("Zeros never learns")
    report.show([record], console)
    assert "100%" in console.export_text()


def test_a_run_that_diverges_is_recorded_and_shown(tmp_path):
    unit = dataclasses.replace(TINY, techniques=("he",), learning_rates=(1e6,))
    record = harness.train(unit)
    assert len(record["runs"]) == 2
    (row,) = summary.rows([json.loads(store._line(record))])
    assert row.diverged.all() and row.never_learned.all()
    assert "diverged" in " ".join(summary.table([record])[0])
    report.plot([record], tmp_path / "diverged.png")


def test_the_best_rate_is_chosen_on_training_data_alone():
    def run(rate, accuracy, loss, test):
        return {
            "technique": "he",
            "learning_rate": rate,
            "accuracy": accuracy,
            "train_loss": loss,
            "test_accuracy": test,
        }

    record = {
        "unit": {"window": 10},
        "label_entropy": 2.3,
        "runs": [
            run(0.1, [0.5, 0.95], 0.1, 0.2),
            run(0.01, [0.5, 0.6], 0.2, 0.9),
            run(1.0, [0.5, 0.6], None, 0.9),
        ],
    }
    (row,) = summary.rows([record])
    assert row.learning_rate == 0.1 and list(row.steps) == [20]


def test_a_killed_run_resumes_and_loses_nothing(tmp_path, console, monkeypatch, trained):
    here, other = store.environment(), dataclasses.replace(TINY, activation="tanh")
    monkeypatch.setattr(store, "environment", lambda: here)

    def recorded(unit, tick):
        return {**trained, "unit": dataclasses.asdict(unit)}

    def killed(unit, tick):
        if unit == other:
            raise KeyboardInterrupt
        return recorded(unit, tick)

    def only_the_rest(unit, tick):
        assert unit == other
        return recorded(unit, tick)

    def run(measure, results):
        tiny = experiments.Experiment("A question?", lambda size: [TINY, other], measure)
        command.run("tiny", tiny, "smoke", tmp_path / results, console)
        return store.Journal(tmp_path / results, "smoke", "tiny").path.read_text()

    with pytest.raises(KeyboardInterrupt):
        run(killed, "resumed")
    partial = store.Journal(tmp_path / "resumed", "smoke", "tiny").partial
    with partial.open("a") as file:
        file.write('{"unit": {"activation": "ta')  # torn in the middle of a write
    assert run(only_the_rest, "resumed") == run(recorded, "at once")
    assert not partial.exists()
    text = console.export_text()
    assert "dropped an incomplete last line" in text and "resumed after 1" in text


def test_units_of_other_versions_are_run_again(tmp_path, trained):
    journal = store.Journal(tmp_path, "smoke", "tiny")
    here = store.environment()
    journal.resume(here)
    journal.append({**trained, "environment": {**here, "jax": "0.0.1"}})
    journal.append({**trained, "environment": here})
    records, notes = journal.resume(here)
    assert len(records) == 1 and "1 finished unit(s) again" in notes[0]


def test_a_damaged_line_names_file_and_line(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{}\n{"a":\n{}\n')
    with pytest.raises(ValueError, match=r"x\.jsonl, line 2 is not JSON"):
        store.read(path)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["quikc"], "did you mean quick"),
        (["run", "quick", "quikc"], "did you mean quick"),
        (["reprot"], "did you mean report"),
    ],
)
def test_unknown_names_give_the_nearest(arguments, message, capsys):
    assert command.main(arguments) == 2
    assert message in "".join(capsys.readouterr())


def test_results_that_cannot_be_written_fail_before_training(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.touch()
    assert command.main(["run", "quick", "--size", "smoke", "--results", str(blocked)]) == 2
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, message",
    [
        ({"activation": "rleu"}, "unknown activation 'rleu'"),
        ({"techniques": ("magic",)}, "unknown technique 'magic'"),
        ({"depth": 2}, "depth must be at least 3"),
        ({"steps": 25}, "multiple of window = 10"),
    ],
)
def test_bad_units_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **change)


@pytest.mark.parametrize("name", experiments.names())
@pytest.mark.parametrize("size", store.SIZES)
def test_every_experiment_has_units_at_every_size(name, size):
    units = experiments.load(name).units(size)
    assert units and len(set(map(store.key, units))) == len(units)


def test_the_committed_page_is_what_the_committed_numbers_say(tmp_path):
    results = shutil.copytree(command.RESULTS, tmp_path / "results")
    written = (results / "README.md").read_text()
    arguments = ["-m", "benchmarks", "report", "--results", results]
    subprocess.run([sys.executable, *arguments], cwd=store.ROOT, check=True, capture_output=True)
    assert (results / "README.md").read_text() == written


def test_smoke_run_of_quick_writes_results_table_and_plot(tmp_path):
    """As a user runs it, on three devices: the runs are padded and spread, none is lost."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "quick", "--size", "smoke", "--results", tmp_path],
        cwd=store.ROOT,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=3"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    records, torn = store.read(tmp_path / "smoke" / "quick.jsonl")
    units = experiments.load("quick").units("smoke")
    assert not torn and [store.key(r["unit"]) for r in records] == [*map(store.key, units)]
    for record in records:
        assert record["environment"]["devices"] == 3
        settings = {(r["technique"], r["learning_rate"], r["seed"]) for r in record["runs"]}
        assert len(settings) == len(record["runs"]) == 5 * 3 * 2
    assert (tmp_path / "smoke" / "quick.png").stat().st_size > 0
    assert "smoke size" in (tmp_path / "README.md").read_text()
    assert "Derived gain" in done.stdout and "guessing" in done.stdout
