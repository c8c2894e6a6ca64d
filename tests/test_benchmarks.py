"""The benchmark harness: small runs that must be right, resumable and repeatable."""

import dataclasses
import json
import math
import os
import random
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest
from rich.console import Console

from benchmarks import (
    __main__ as command,
    curves,
    data,
    experiments,
    harness,
    report,
    store,
    summary,
    techniques,
    units,
    view,
)

TINY = units.Classifier(
    activation="relu",
    techniques=("normal", "he"),
    learning_rates=(0.01,),
    seeds=(0, 1),
    depth=4,
    width=16,
    steps=20,
)


TINY_MODEL = {
    "techniques": ("plain", "depth", "zero"),
    "learning_rates": (0.01,),
    "seeds": (0,),
    "depth": 2,
    "width": 16,
    "normalize": True,
    "steps": 10,
    "batch_size": 2,
}


@pytest.fixture
def console():
    return Console(record=True, width=120)


@pytest.fixture(scope="module")
def trained():
    return harness.train(TINY)


@pytest.mark.parametrize("name, examples", [("digits", 1797), ("mnist1d", 5000)])
def test_inputs_have_unit_second_moment_and_disjoint_parts(name, examples):
    generators = random.getstate(), np.random.get_state()[1].tolist()
    dataset = data.DATASETS[name]()
    assert generators == (random.getstate(), np.random.get_state()[1].tolist())
    assert len(dataset.train_labels) + len(dataset.test_labels) == examples
    # Exact by construction, up to float32 sums.
    assert np.mean(dataset.train_inputs.astype(float) ** 2) == pytest.approx(1, rel=1e-6)
    assert dataset.guess()["label_entropy"] <= math.log(dataset.classes)
    train = {row.tobytes() for row in dataset.train_inputs}
    assert not train & {row.tobytes() for row in dataset.test_inputs}


def test_the_text_is_english_and_read_back():
    text = data.documentation()
    whole = "".join(text.characters[i] for i in np.append(text.train, text.test))
    assert "assignment" in whole and len(whole) > 100_000
    assert set(whole) == set(text.characters)


def test_batches_of_text_are_followed_by_their_next_characters():
    unit = units.LanguageModel(**TINY_MODEL)
    inputs, labels = unit.batch(jax.random.key(0))
    assert inputs.shape == labels.shape == (unit.batch_size, unit.length)
    np.testing.assert_array_equal(inputs[:, 1:], labels[:, :-1])


def test_a_transformer_sees_no_later_character():
    unit = units.LanguageModel(**TINY_MODEL)
    params = jax.jit(unit.init("plain"))(jax.random.key(0))
    inputs, _ = unit.batch(jax.random.key(1))
    cut = unit.length // 2
    changed = inputs.at[:, cut:].set((inputs[:, cut:] + 1) % 5)
    before, after = (unit.logits(params, x) for x in (inputs, changed))
    np.testing.assert_array_equal(before[:, :cut], after[:, :cut])
    assert not np.array_equal(before[:, cut:], after[:, cut:])


def test_branches_of_a_transformer_start_as_they_are_scaled():
    unit = units.LanguageModel(**TINY_MODEL)

    def squares(technique):
        blocks = jax.jit(unit.init(technique))(jax.random.key(0))["params"]["blocks"]
        writing = blocks["Dense_1"], blocks["MultiHeadDotProductAttention_0"]["out"]
        return [float(np.sum(np.square(layer["kernel"]))) for layer in writing]

    plain, scaled, zero = map(squares, ("plain", "depth", "zero"))
    np.testing.assert_allclose(scaled, np.divide(plain, 2 * unit.depth), rtol=1e-5)
    assert zero == [0, 0]


def test_the_exact_gelu_trains():
    """JAX 0.12 cannot check how erfc varies over the devices of a mesh."""
    unit = dataclasses.replace(TINY, activation="gelu", techniques=("he",), seeds=(0,))
    (run,) = harness.train(unit)["runs"]
    assert None not in run["loss"]


def test_one_seed_gives_one_set_of_numbers(trained):
    assert harness.train(TINY)["runs"] == trained["runs"]


def test_a_run_does_not_depend_on_what_is_trained_beside_it(trained):
    alone = harness.train(dataclasses.replace(TINY, techniques=("he",), seeds=(1,)))
    (run,) = alone["runs"]
    (same,) = [r for r in trained["runs"] if r["technique"] == "he" and r["seed"] == 1]
    # On a CPU each network is trained by itself: not a bit depends on the others.
    assert run == same


def test_the_loop_is_a_plain_optax_loop(trained):
    """The first steps of one run, written out without batching or scanning."""
    digits = data.digits()
    network = TINY.network("he")
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
    network = TINY.network("he")
    params = network.init(jax.random.key(0), digits.train_inputs[:1])
    logits = np.asarray(network.apply(params, digits.train_inputs[:128]), dtype=float)
    delta = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    delta[np.arange(128), digits.train_labels[:128]] -= 1
    (run,) = [r for r in trained["runs"] if r["technique"] == "he" and r["seed"] == 0]
    assert run["probes"][0]["gradient"][-1] == pytest.approx(
        np.sqrt((delta**2).sum(-1).mean()), rel=1e-4
    )


def test_a_broken_technique_is_reported_as_never_learned(monkeypatch, console):
    """The negative control: kernels of zeros pass neither signal nor gradient."""
    zeros = techniques.Technique.everywhere("Zeros", jax.nn.initializers.zeros)
    monkeypatch.setitem(techniques.TECHNIQUES, "zeros", zeros)
    unit = dataclasses.replace(TINY, techniques=("zeros", "he"), steps=60, width=32)
    record = harness.train(unit)
    broken, he = summary.rows([record])
    assert broken.never_learned.all() and not he.never_learned.any()
    assert np.isinf(broken.gradient_ratio).all() and np.isfinite(he.gradient_ratio).all()
    assert "Zeros never learns" in curves.VIEW.finding([record])
    report.show(curves.VIEW, [record], console)
    assert "100%" in console.export_text()


def test_a_run_that_diverges_is_recorded_and_shown(tmp_path):
    unit = dataclasses.replace(TINY, techniques=("he",), learning_rates=(1e6,))
    record = harness.train(unit)
    assert len(record["runs"]) == 2
    (row,) = summary.rows([json.loads(store._line(record))])
    assert row.diverged.all() and row.never_learned.all()
    assert "diverged" in " ".join(curves.table([record])[1])
    curves.plot([record], "Title").savefig(tmp_path / "diverged.png")


def test_the_best_rate_is_chosen_on_training_data_alone():
    def run(rate, accuracy, loss, test):
        return {
            "technique": "he",
            "gain": 1.0,
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
    for best in (summary.by_loss, summary.by_steps):
        (row,) = summary.rows([record], best)
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
        tiny = experiments.Experiment("A question?", lambda size: [TINY, other], measure=measure)
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


def test_another_dtype_is_kept_apart(tmp_path, console):
    """Units that differ in their dtype alone become one."""
    seen = []

    def measure(unit, tick):
        seen.append(unit)
        return {"unit": dataclasses.asdict(unit), **harness.train(unit)}

    low = dataclasses.replace(TINY, dtype="bfloat16")
    tiny = experiments.Experiment("A question?", lambda size: [TINY, low], measure=measure)
    (record,) = command.run("tiny", tiny, "smoke", tmp_path, console, "bfloat16")
    assert seen == [low] and record["unit"]["dtype"] == "bfloat16"
    assert (tmp_path / "smoke-bfloat16" / "tiny.jsonl").exists()
    assert not (tmp_path / "smoke").exists()


@pytest.mark.parametrize("name", experiments.names())
def test_every_experiment_has_a_dtype(name):
    for unit in experiments.load(name).units("smoke"):
        assert dataclasses.replace(unit, dtype="bfloat16").dtype == "bfloat16"


def test_no_process_waits_for_a_first_one_that_cannot_write(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    told = []

    def broadcast(fine):
        told.append(bool(fine))
        return np.array(False)

    monkeypatch.setattr(command.multihost_utils, "broadcast_one_to_all", broadcast)
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        command._resumed(store.Journal(tmp_path / "file", "smoke", "tiny"), {})
    with pytest.raises(ValueError, match="the first process cannot keep results"):
        command._resumed(None, {})
    assert told == [False, True]


def test_level_means_that_none_is_clearly_better():
    values = {
        "noisy": [0.5, 0.5, np.inf],
        "best": [1.0, 2.0, 3.0],
        "level": [3.0, 4.0, 5.0],
        "behind": [3.5, 4.0, 5.0],
    }
    level = summary.level(list(values), lambda name: np.array(values[name]))
    assert level == ["noisy", "best", "level"]


def test_units_of_other_versions_are_run_again(tmp_path, trained):
    journal = store.Journal(tmp_path, "smoke", "tiny")
    here = store.environment()
    journal.resume(here)
    journal.append({**trained, "environment": {**here, "jax": "0.0.1"}})
    # Another commit of the same source is the same code.
    journal.append({**trained, "environment": {**here, "commit": "0123456"}})
    records, notes = journal.resume(here)
    assert len(records) == 1 and "1 finished unit(s)" in notes[0]
    kept, torn = store.read(journal.stale)
    assert not torn and [record["environment"]["jax"] for record in kept] == ["0.0.1"]


def test_extending_keeps_what_other_code_made(tmp_path, console, trained):
    """Only units that no stored result has are run; the page names the code of each."""
    other = dataclasses.replace(TINY, activation="tanh")
    path = store.Journal(tmp_path, "smoke", "quick").path
    ran = []

    def run(units, extend):
        def measure(unit, tick):
            ran.append(unit)
            return {**trained, "unit": dataclasses.asdict(unit)}

        tiny = experiments.Experiment("A question?", lambda size: units, measure=measure)
        command.run("quick", tiny, "smoke", tmp_path, console, extend=extend)

    run([TINY], extend=False)
    old = [{**record, "environment": {**record["environment"], "source": "old", "commit": "old"}}
           for record in store.read(path)[0]]  # fmt: skip
    path.write_text("".join(map(store._line, old)))
    run([other, TINY], extend=True)
    assert ran == [TINY, other]
    assert [record["environment"]["commit"] == "old" for record in store.read(path)[0]] == [0, 1]
    assert "commit old" in report._origin("quick", store.read(path)[0]).split("; ")[1]
    run([other, TINY], extend=False)
    assert ran == [TINY, other, other, TINY]


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
        ({"data": "mnist"}, "unknown data 'mnist'"),
        ({"optimizer": "lion"}, "unknown optimizer 'lion'"),
        ({"seeds": (0, 0)}, "seeds must be different"),
        ({"gains": ()}, "gains must be"),
        ({"probes": (5,)}, "probes must be multiples of window = 10"),
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
    parts = experiments.load(name).units(size)
    assert parts and len(set(map(store.key, parts))) == len(parts)
    assert all(unit.work > 0 and unit.title for unit in parts)


def test_every_experiment_has_committed_results():
    kept = (command.RESULTS / "laptop").glob("*.jsonl")
    assert {path.stem for path in kept} == set(experiments.names())


def sketched(figure, path):
    """Save a figure without its layout, which takes most of the time, and in few pixels."""
    figure.set_layout_engine("none")
    figure.savefig(path, dpi=40)


@pytest.mark.any_jax
@pytest.mark.slow
def test_the_committed_page_is_what_the_committed_numbers_say(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "save", sketched)
    results = shutil.copytree(command.RESULTS, tmp_path / "results")
    written = (results / "README.md").read_text()
    assert command.main(["report", "--results", str(results)]) == 0
    assert (results / "README.md").read_text() == written
    assert "<table>" in (results / report.PAGE).read_text()


def run_command(*arguments, devices: int = 2, **environment):
    """Run the command as a user does, on so many devices; it may not hang."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *map(str, arguments)],
        cwd=store.ROOT,
        env={**os.environ, "XLA_FLAGS": flags, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process, seconds: int = 1800) -> str:
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def on_three_devices(tmp_path_factory):
    """A smoke run of `quick`: its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("three")
    return folder, finished(run_command("quick", "--size", "smoke", "--results", folder, devices=3))


@pytest.mark.slow
def test_smoke_run_of_quick_writes_results_table_and_plot(on_three_devices):
    """On three devices: the seeds are padded and spread, none is lost."""
    folder, out = on_three_devices
    records, torn = store.read(folder / "smoke" / "quick.jsonl")
    parts = experiments.load("quick").units("smoke")
    assert not torn and [store.key(r["unit"]) for r in records] == [*map(store.key, parts)]
    for record in records:
        assert record["environment"]["devices"] == 3
        settings = {(r["technique"], r["learning_rate"], r["seed"]) for r in record["runs"]}
        assert len(settings) == len(record["runs"]) == 5 * 4 * 2
    assert (folder / "smoke" / "quick.png").stat().st_size > 0
    assert "smoke size" in (folder / "README.md").read_text()
    assert "Derived gain" in out and "guessing" in out


@pytest.mark.slow
def test_one_seed_gives_the_same_numbers_on_any_number_of_devices(monkeypatch):
    unit = dataclasses.replace(TINY, techniques=("he", "orthogonal"), seeds=(0, 1, 2), depth=5)
    # The second has one network a device, too.
    parts = unit, dataclasses.replace(unit, techniques=("he",))

    def runs(count):
        monkeypatch.setattr(harness, "devices", lambda: jax.devices()[:count])
        return [run for part in parts for run in harness.train(part)["runs"]]

    alone = runs(1)
    assert len(alone) == 9
    for count in (2, 4, 8):
        assert runs(count) == alone


@pytest.mark.slow
def test_two_processes_share_one_run(on_three_devices, tmp_path):
    """As on two hosts: both train, the first writes; their numbers are those of one process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    arguments = "quick", "--size", "smoke", "--results", tmp_path, "--distributed"
    processes = [run_command(*arguments, f"{address},2,{n}", devices=1) for n in (0, 1)]
    for process in processes:
        finished(process)
    together, apart = (
        [record["runs"] for record in store.read(folder / "smoke" / "quick.jsonl")[0]]
        for folder in (tmp_path, on_three_devices[0])
    )
    assert together == apart


def test_an_interval_of_the_median_covers_it_as_often_as_it_says():
    """Percentile intervals of 25 normal values: coverage 95 %, give or take what is known.

    The binomial that governs the ranks makes the exact coverage of order statistics 6 to 20
    (counted from 1) of 25 the sum of B(25, 1/2) from 6 to 19; the bootstrap of the median ends
    within one rank of these. Coverage over 400 trials is tested with z = 4.
    """
    trials, count = 400, 25
    draws = np.random.default_rng(1).normal(size=(trials, count))
    ends = np.array([view.interval(row) for row in draws])
    covered = np.mean((ends[:, 0] <= 0) & (ends[:, 1] >= 0))
    weights = [math.comb(count, k) / 2**count for k in range(count + 1)]
    narrow, wide = sum(weights[8:18]), sum(weights[6:20])
    spread = 4 * math.sqrt(0.05 * 0.95 / trials)
    assert narrow - spread < covered < wide + spread


def test_an_interval_holds_infinite_values():
    assert view.interval([1.0, np.inf, np.inf]) == (1.0, np.inf)
    assert view.interval([np.inf, np.inf]) == (np.inf, np.inf)


def test_probes_are_those_of_the_theory():
    """Orthogonal linear layers keep gradients and signals exactly: χ = 1 in every network."""
    unit = dataclasses.replace(
        TINY, activation="linear", techniques=("orthogonal", "xavier"), depth=8
    )
    runs = harness.train(unit)["runs"]
    exact, control = (
        [r["probes"][0]["gradient"][:-1] for r in runs if r["technique"] == t]
        for t in unit.techniques
    )
    np.testing.assert_allclose(np.divide(exact, np.array(exact)[:, :1]), 1, rtol=1e-4)
    assert np.ptp(control) > 0.1


def test_gains_multiply_kernels_and_nothing_else():
    unit = dataclasses.replace(TINY, techniques=("critical",), activation="gelu", gains=(1.0, 2.0))
    params = harness.draw(unit, harness.seed_keys(unit))["params"]["first"]
    kernels, biases = np.asarray(params["kernel"]), np.asarray(params["bias"])
    np.testing.assert_array_equal(kernels[:, 1], 2 * kernels[:, 0])
    np.testing.assert_array_equal(biases[:, 1], biases[:, 0])
    assert biases.any()


def test_norms_of_vanishing_gradients_do_not_underflow():
    values = np.array([[3e-25, 4e-25], [0.0, 0.0], [3e25, 4e25]], np.float32)
    np.testing.assert_allclose(units._norm(values, -1), [5e-25, 0, 5e25], rtol=1e-6)
    assert not np.linalg.norm(values[0])  # the negative control


def diverged(value):
    """Return a record with None for every number that a diverging network could lose."""
    if isinstance(value, dict):
        # The accuracy of logits that are not numbers is that of always naming the first class.
        return {k: v if "accuracy" in k else diverged(v) for k, v in value.items()}
    if isinstance(value, list):
        return [diverged(inner) for inner in value]
    return None if isinstance(value, float) else value


@pytest.mark.any_jax
@pytest.mark.filterwarnings("ignore:All-NaN|invalid value|Mean of empty|No data for colormapping")
@pytest.mark.parametrize(
    "name",
    [
        # A hundred depth scales, each the root of a double integral.
        pytest.param(name, marks=pytest.mark.slow if name == "schoenholz_2017" else ())
        for name in experiments.names()
    ],
)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_every_view_shows_networks_that_diverged(name, share, tmp_path):
    """Of the committed results, none, half or all runs are made to diverge."""
    records, _ = store.read(store.Journal(command.RESULTS, "laptop", name).path)
    keep = {"technique", "gain", "learning_rate", "seed", "start"}
    for record in records:
        every = round(1 / share) if share else len(record["runs"]) + 1
        for i, run in enumerate(record["runs"], 1):
            if i % every == 0:
                run.update(diverged({key: run[key] for key in run.keys() - keep}))
    shown = experiments.load(name).view
    text = shown.finding(records)
    assert text and "nan" not in text
    head, *rows = shown.table(records)
    assert rows and all(len(row) == len(head) for row in rows)
    assert "nan" not in " ".join(cell for row in rows for cell in row)
    sketched(shown.plot(records, text), tmp_path / "plot.png")


def test_results_of_another_version_are_named(tmp_path):
    path = store.Journal(tmp_path, "laptop", "quick").path
    path.parent.mkdir()
    path.write_text('{"unit": {}, "runs": []}\n')
    with pytest.raises(ValueError, match=r"quick\.jsonl lacks .* another version"):
        report.page(tmp_path)
