"""The command `python -m benchmarks`: list | run NAME... | report | accelerator."""

import argparse
import dataclasses
import os
import sys
from difflib import get_close_matches
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from benchmarks import accelerator, experiments, report, store

COMMANDS = ("list", "run", "report", "accelerator")
RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    console = Console(soft_wrap=False)
    # `python -m benchmarks quick` is short for `run quick`.
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        if arguments[0] not in experiments.names() and (
            near := get_close_matches(arguments[0], COMMANDS, n=1)
        ):
            console.print(f"There is no command {arguments[0]!r}: did you mean {near[0]}?")
            return 2
        arguments = ["run", *arguments]
    options = _parser().parse_args(arguments)
    try:
        return options.do(options, console)
    except (ValueError, OSError) as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False)
        return 2
    except KeyboardInterrupt:
        console.print("Stopped. The same command resumes after the last finished unit.")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="|".join(COMMANDS))
    commands.add_parser("list", help="list the experiments").set_defaults(do=_list)
    run = commands.add_parser("run", help="run experiments, or resume them")
    run.add_argument("names", nargs="+", metavar="NAME", help="experiments, or `all`")
    run.add_argument("--size", choices=store.SIZES, default="laptop")
    run.add_argument(
        "--dtype",
        choices=store.DTYPES,
        help="dtype of parameters and arithmetic, instead of each experiment's own; these results "
        "are stored separately",
    )
    run.add_argument(
        "--distributed",
        nargs="?",
        const="auto",
        type=_process,
        metavar="ADDRESS:PORT,COUNT,ID",
        help="run as one of several processes. JAX finds the others on Cloud TPU, Slurm, Open MPI "
        "and Kubernetes; elsewhere give the first process's address, the number of processes, and "
        "this process's number",
    )
    run.add_argument(
        "--extend",
        action="store_true",
        help="keep the stored results of units whose settings are unchanged, whatever code made "
        "them, and run only those that are missing, as seeds or widths that were added",
    )
    run.set_defaults(do=_run)
    page = commands.add_parser("report", help="write the pages and plots from stored results")
    page.set_defaults(do=_report)
    device = commands.add_parser("accelerator", help="check and time this machine's accelerator")
    device.add_argument("--size", choices=accelerator.SIZES, default="full")
    device.set_defaults(do=_accelerator)
    for command in (run, page, device):
        command.add_argument("--results", type=Path, default=RESULTS, help="results folder")
    return parser


def _process(text: str) -> tuple[str, int, int] | tuple[()]:
    """Parse the arguments of `jax.distributed.initialize`."""
    if text == "auto":
        return ()
    address, count, number = text.split(",")
    return address, int(count), int(number)


def _list(options, console: Console) -> int:
    for name in experiments.names():
        console.print(f"[bold]{name:16}[/] {experiments.load(name).question}")
    return 0


def _run(options, console: Console) -> int:
    names = experiments.names() if options.names == ["all"] else options.names
    chosen = {name: experiments.load(name) for name in names}
    one_device_per_core()
    if options.distributed is not None:
        jax.distributed.initialize(*options.distributed)
    for name, experiment in chosen.items():
        run(
            name,
            experiment,
            options.size,
            options.results,
            console,
            options.dtype,
            options.extend,
        )
    if jax.process_index() == 0:
        _report(options, console)
    return 0


def _report(options, console: Console) -> int:
    console.print(f"wrote plots, README.md and {report.page(options.results)}", soft_wrap=True)
    return 0


def _accelerator(options, console: Console) -> int:
    return accelerator.run(options.size, options.results, console)


def one_device_per_core() -> None:
    """Make each core of a CPU a device of XLA.

    Small matrix products do not spread over the cores of one device. As devices on the mesh, two
    cores train twice as fast as one.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        # macOS does not say which cores a process may use.
        usable = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
        jax.config.update("jax_num_cpu_devices", len(usable))


def run(
    name: str,
    experiment: experiments.Experiment,
    size: str,
    results: Path,
    console: Console,
    dtype: str | None = None,
    extend: bool = False,
) -> list[dict]:
    """Run one experiment with a progress bar, print its table, store and return its records.

    With several processes, the first keeps the journal and tells the others where to begin; the
    others return no records.
    """
    here, units = store.environment(), experiment.units(size)
    if dtype:  # units that differ only in dtype become one
        units = list(dict.fromkeys(dataclasses.replace(unit, dtype=dtype) for unit in units))
    first = jax.process_index() == 0
    journal = store.Journal(results, size, name, dtype) if first else None
    records, notes = _resumed(journal, here, extend)
    done = {store.key(record["unit"]): record for record in records}
    for note in notes:
        console.print(note, style="yellow", soft_wrap=True)
    if first:
        console.print(f"{name} ({size}) on {here['devices']} × {here['device']}, jax {here['jax']}")
    finished = [store.key(unit) in done for unit in units]
    if jax.process_count() > 1:
        finished = multihost_utils.broadcast_one_to_all(np.array(finished))
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("time left"),
        TimeRemainingColumn(),
        console=console,
        disable=not first,
    ) as progress:
        bar = progress.add_task(name, total=sum(unit.work for unit in units))
        for unit, is_done in zip(units, finished, strict=True):
            if is_done:
                progress.advance(bar, unit.work)
                continue
            progress.update(bar, description=f"{name}: {unit.title}")
            record = experiment.measure(
                unit, lambda share, unit=unit: progress.advance(bar, share * unit.work)
            )
            done[store.key(unit)] = {**record, "environment": here}
            if journal:
                journal.append(done[store.key(unit)])
    if journal is None:
        return []
    records = [done[store.key(unit)] for unit in units]
    journal.complete(records)
    report.show(experiment.view, records, console)
    return records


def _resumed(
    journal: store.Journal | None, here: dict, extend: bool = False
) -> tuple[list[dict], list[str]]:
    """Resume the first process's journal; if that fails, fail in every process."""
    problem, found = None, ([], [])
    try:
        found = journal.resume(here, extend) if journal else found
    except (OSError, ValueError) as error:
        problem = error
    if jax.process_count() > 1:
        fine = multihost_utils.broadcast_one_to_all(np.array(problem is None))
        if not fine and not journal:
            problem = ValueError("the first process cannot keep results. Its message says why.")
    if problem:
        raise problem
    return found


if __name__ == "__main__":
    sys.exit(main())
