"""A bar on a terminal while a model is measured; nothing anywhere else."""

import contextlib
import sys
from collections.abc import Callable, Iterator

Advance = Callable[[], None]
Phase = Callable[[str, int | None], Advance]


@contextlib.contextmanager
def phases() -> Iterator[Phase]:
    """Yield a function that starts a phase of some steps, and returns one that advances it."""
    if not sys.stderr.isatty():
        yield lambda text, total: lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:

        def phase(text: str, total: int | None) -> Advance:
            task = bar.add_task(text, total=total)
            return lambda: bar.advance(task)

        yield phase
