"""A progress bar for initialisations that take long."""

import sys
import time
from typing import Any

import jax

# Shorter initialisations would only make the terminal flicker.
PATIENCE_SECONDS = 1.0


class Progress:
    """Counts bytes; draws a bar on standard error once `PATIENCE_SECONDS` have passed."""

    def __init__(self, total: int, *, enabled: bool) -> None:
        self._total, self._done = total, 0
        self._enabled = enabled and sys.stderr.isatty() and jax.process_index() == 0
        self._start = time.perf_counter()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, size: int) -> None:
        """Count `size` more bytes."""
        self._done += size
        if not self._enabled or time.perf_counter() - self._start < PATIENCE_SECONDS:
            return
        if self._bar is None:
            from rich import progress  # slow to import: only for those who wait
            from rich.console import Console

            self._bar = progress.Progress(
                progress.TextColumn("initialising"),
                progress.BarColumn(),
                progress.DownloadColumn(),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=self._total)
            self._bar.start()
        self._bar.update(self._task, completed=self._done)
