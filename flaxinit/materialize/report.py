"""What an initialization did, as a table, and its progress, as a bar."""

import sys
import threading
from dataclasses import dataclass, field
from typing import Any

import jax

# Shorter initializations would only make the terminal flicker.
PATIENCE_SECONDS = 1.0


@dataclass
class Group:
    """Draws that share one compilation."""

    example: str  # path of one of the arrays
    shape: str
    draws: int = 0
    compile_seconds: float = 0.0  # 0 when an earlier call had compiled it
    draw_seconds: float = 0.0
    bytes_per_device: int = 0


@dataclass
class Report:
    """Where the time and the memory of one initialization went.

    Attributes:
        trace_seconds: tracing the init function and partitioning it.
        compile_seconds: wall time of compiling. Compilations run in parallel and compete, so the
            sum over groups is larger.
        compile_processor_seconds: processor time of all threads of this process while it compiled,
            which does not depend on what else the machine was doing.
        key_seconds: deriving the keys of all draws.
        total_seconds: wall time of everything.
        peak_bytes_per_device: an upper bound of the memory held at any time: all arrays made so
            far, and the results, intermediate arrays and temporaries of the draws under way.
        passed_bytes_per_device: bytes of arrays in the result that are not drawn, such as
            arguments, on the device that holds most of them.
        groups: one entry for each distinct draw.
    """

    trace_seconds: float = 0.0
    compile_seconds: float = 0.0
    compile_processor_seconds: float = 0.0
    key_seconds: float = 0.0
    total_seconds: float = 0.0
    peak_bytes_per_device: int = 0
    passed_bytes_per_device: int = 0
    groups: list[Group] = field(default_factory=list)

    @property
    def draw_seconds(self) -> float:
        """Seconds spent running compiled draws, summed over groups."""
        return sum(g.draw_seconds for g in self.groups)

    @property
    def bytes_per_device(self) -> int:
        """Bytes of the result on a device: those of all groups, and of what is passed through."""
        return sum(g.bytes_per_device for g in self.groups) + self.passed_bytes_per_device

    def __rich__(self):
        from rich.table import Table  # rich is slow to import: only for those who print

        table = Table(
            title=f"fast_init: {self.total_seconds:.2f} s (trace {self.trace_seconds:.2f} s, "
            f"compile {self.compile_seconds:.2f} s, keys {self.key_seconds:.2f} s), "
            f"peak {self.peak_bytes_per_device:,} bytes/device",
            show_footer=True,
        )
        totals = (
            sum(g.draws for g in self.groups),
            sum(g.compile_seconds for g in self.groups),
            self.draw_seconds,
        )
        table.add_column("group", "total", overflow="fold")
        table.add_column("array")
        table.add_column("draws", str(totals[0]), justify="right")
        table.add_column("compile s", f"{totals[1]:.2f}", justify="right")
        table.add_column("draw s", f"{totals[2]:.2f}", justify="right")
        table.add_column("bytes/device", f"{self.bytes_per_device:,}", justify="right")
        for g in self.groups:
            table.add_row(
                g.example,
                g.shape,
                str(g.draws),
                f"{g.compile_seconds:.2f}",
                f"{g.draw_seconds:.2f}",
                f"{g.bytes_per_device:,}",
            )
        return table


class Progress:
    """Draws a bar on standard error once `PATIENCE_SECONDS` have passed.

    Its length is unknown while programs are compiled; it counts bytes while they run.
    """

    def __init__(self, total: int, *, enabled: bool) -> None:
        self._total, self._done = total, 0
        self._enabled = enabled and sys.stderr.isatty() and jax.process_index() == 0
        self._bar: Any = None
        self._task: Any = None
        # Nothing calls `advance` while programs are compiled, so a separate thread shows the bar.
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
            self._enabled = False  # a timer that has just gone off then shows nothing
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
                progress.TextColumn("initializing: {task.description}"),
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
