"""The command `python -m derivations`: render the book, or check it."""

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from derivations import ACTIVATIONS, THEOREMS, bounds, names, render, write
from derivations.page import StepError
from derivations.table import MOMENTS, table

LEGEND = (
    "Every step was checked when its page was written. The check is named beside the step. A page "
    "with a failing step is not written. Most checks are proofs, by computer algebra or by "
    "interval arithmetic. Some checks only try cases, and say so (*at 245 points*, *up to degree "
    "5*, *in 2 and 3 dimensions*, *quadrature*). Such a check can refute the step; the text beside "
    "it is the proof. `python -m derivations` writes these pages; do not edit them."
)

PAGES = Path(__file__).parents[1] / "docs" / "book"


class Published(NamedTuple):
    """What the book's overview needs of a page: its title, and an activation's second moments."""

    title: str
    bounds: tuple | None = None


def publish(name: str, folder: Path) -> Published:
    """Write one page as Markdown, with the plot of an activation."""
    page = write(name)
    if page.kind == "activation":
        from derivations.figure import draw

        render.put(folder / "plots" / f"{name}.png", draw(page))
    render.put(folder / f"{name}.md", render.markdown(page))
    return Published(page.title, bounds(page) if page.kind == "activation" else None)


def check(name: str, folder: Path) -> Published:
    """Run every step of a page and write nothing."""
    return Published(write(name).title)


def contents(pages: dict[str, Published], folder: Path) -> None:
    """Write the table of contents, and for the site the order of the pages."""
    lines = ["# The proof book", "", LEGEND, ""]
    for heading, listed in ("Theorems", THEOREMS), ("Activations", ACTIVATIONS):
        lines += [f"## {heading}", ""]
        lines += [f"- [{name}]({name}.md): {pages[name].title}" for name in listed]
        lines += ["", "```{toctree}", ":hidden:", f":caption: {heading}", "", *listed, "```", ""]
    render.put(folder / "index.md", "\n".join(lines))


def prepare(folder: Path) -> None:
    """Make the output folders, or exit and say why that is impossible."""
    for each in (folder, folder / "plots"):
        try:
            each.mkdir(parents=True, exist_ok=True)
            probe = each / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as problem:
            sys.exit(
                f"derivations: cannot write into the output folder {each}: {problem.strerror}. "
                "Choose another with --output."
            )


def every(work: Callable[[str, Path], Published], folder: Path, jobs: int) -> dict[str, Published]:
    """Do the work for all pages in parallel, and exit if a page fails."""
    pages, failures = {}, []
    with ProcessPoolExecutor(jobs) as pool:
        waiting = {pool.submit(work, name, folder): name for name in names()}
        try:
            for done in as_completed(waiting):
                name = waiting[done]
                try:
                    pages[name] = done.result()
                    print(f"✓ {name}", flush=True)
                except (StepError, ValueError) as problem:
                    failures.append(str(problem))
                    print(f"✗ {name}\n{problem}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failures:
        sys.exit(f"derivations: {len(failures)} of {len(waiting)} pages have an unproven step.")
    return pages


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m derivations", description="Render the proof book and check every step."
    )
    parser.add_argument("page", nargs="?", help="name of one page; all pages if omitted")
    parser.add_argument("--check", action="store_true", help="check the pages and write nothing")
    parser.add_argument("--output", type=Path, default=PAGES, help="folder for the pages")
    parser.add_argument("--jobs", type=int, default=2, help="processes for the whole book")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {options.jobs}")
    if not options.check:
        prepare(options.output)
    begin = time.perf_counter()
    try:
        if options.page:
            page = write(options.page)
            if options.check:
                print(f"✓ {page.name}: {page.steps} steps")
            else:
                render.terminal(page)
                publish(options.page, options.output)
                print(f"\nwritten to {options.output / options.page}.md")
        elif options.check:
            every(check, options.output, options.jobs)
        else:
            pages = every(publish, options.output, options.jobs)
            contents(pages, options.output)
            if options.output == PAGES:  # a book elsewhere leaves the library alone
                render.put(MOMENTS, table({name: pages[name].bounds for name in ACTIVATIONS}))
        if not options.page:
            print(f"{len(names())} pages in {time.perf_counter() - begin:.0f} s")
    except (StepError, ValueError) as problem:
        sys.exit(f"derivations: {problem}")
    except KeyboardInterrupt:
        sys.exit("derivations: interrupted. Complete pages have been kept.")


if __name__ == "__main__":
    main()
