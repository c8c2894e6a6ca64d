"""A progress bar for initialisations that take long."""

import sys
import threading
from typing import Any

import jax

# Shorter initialisations would only make the terminal flicker.
PATIENCE_SECONDS = 1.0


class Progress:
    """Draws a bar on standard error once `PATIENCE_SECONDS` have passed.

    It is one of unknown length while programs are compiled, and counts bytes while they are run.
    """

    def __init__(self, total: int, *, enabled: bool) -> None:
        self._total, self._done = total, 0
        self._enabled = enabled and sys.stderr.isatty() and jax.process_index() == 0
        self._bar: Any = None
        self._task: Any = None
        # Nothing of this class is called during a compilation: another thread waits.
        self._lock = threading.Lock()
        self._timer = threading.Timer(PATIENCE_SECONDS, self._show)
        self._timer.daemon = True

    def __enter__(self) -> "Progress":
        if self._enabled:
            self._timer.start()
        return self

    def __exit__(self, *error) -> None:
        self._timer.cancel()
        with self._lock:
            self._enabled = False  # a timer that has just gone off shows nothing any more
            if self._bar is not None:
                self._bar.stop()

    def advance(self, size: int) -> None:
        """Count `size` more bytes."""
        with self._lock:
            self._done += size
            self._update()

    def _show(self) -> None:
        from rich import progress  # slow to import: only for those who wait
        from rich.console import Console

        with self._lock:
            if not self._enabled:
                return
            self._bar = progress.Progress(
                progress.TextColumn("initialising: {task.description}"),
                progress.BarColumn(),
                progress.DownloadColumn(),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("compiling", total=None)
            self._update()
            self._bar.start()

    def _update(self) -> None:
        if self._bar is not None and self._done:
            self._bar.update(
                self._task, description="drawing", completed=self._done, total=self._total
            )
