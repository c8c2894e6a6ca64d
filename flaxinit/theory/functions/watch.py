"""Count SymPy's steps while SymPy runs, and stop it at the limit.

What a caller spends before it calls SymPy is an estimate, and some inputs take a thousand times as
long. So SymPy's steps are counted too: to make an expression, to call a function that remembers its
results, and to call one of its polynomial algebra. Whatever SymPy does is made of these, and a step
takes one or two microseconds. Their number differs a little from run to run, because SymPy asks for
assumptions in random order and remembers results.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import sympy

from flaxinit.theory.functions.effort import step

_COUNTED = tuple(
    str(Path(sympy.__file__).parent.joinpath(*parts))
    for parts in (("core", "basic.py"), ("core", "cache.py"), ("polys",))
)
_STRIDE = 256  # steps that are counted at once; to count each of them takes twice the time


class _Thread(threading.local):
    """Whether SymPy is watched in the thread."""

    watched = False


_thread = _Thread()
_steps = 0


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Count SymPy's steps as work.

    If several threads are watched, each 256 steps count in the thread of the last of them.

    >>> from flaxinit.theory.functions.effort import limited
    >>> with watched(), limited(seconds=0.1):
    ...     sympy.expand((1 + sympy.exp(sympy.Symbol("x"))) ** 5000)
    Traceback (most recent call last):
    ...
    flaxinit.theory.functions.effort.OverBudget: This takes more work than is allowed.
    """
    if _thread.watched:
        yield
        return
    _thread.watched = True
    try:
        with _events():
            yield
    finally:
        _thread.watched = False


def _count(filename: str) -> bool:
    """Count a call if it is a step, and tell whether it is one.

    SymPy is stopped at a step and nowhere else, so that whoever has changed a precision or a limit
    can put it back.
    """
    global _steps
    if not filename.startswith(_COUNTED):
        return False
    _steps += 1
    if _steps % _STRIDE == 0 and _thread.watched:
        step(_STRIDE, _resume)
    return True


if sys.version_info >= (3, 12):
    _monitoring = sys.monitoring
    _lock = threading.Lock()
    _running = 0  # threads that are watched

    def _resume() -> None:
        """Do nothing, because an exception does not end the events."""

    def _on_start(code, _offset):
        return None if _count(code.co_filename) else _monitoring.DISABLE

    @contextlib.contextmanager
    def _events() -> Iterator[None]:
        """Let the interpreter report each start of a function, in any thread."""
        global _running, _steps
        with _lock:
            _running += 1
            if _running == 1:
                _steps = 0
                _switch(on=True)
        try:
            yield
        finally:
            with _lock:
                _running -= 1
                if _running == 0:
                    _switch(on=False)

    def _switch(*, on: bool) -> None:
        """Take a free identifier for the events, or give it back; without one, none are counted."""
        name, start = "flaxinit", _monitoring.events.PY_START
        tools = [n for n in range(6) if _monitoring.get_tool(n) == (None if on else name)]
        if not tools:
            return
        tool = tools[-1]  # debuggers and profilers take the lower ones
        if on:
            _monitoring.use_tool_id(tool, name)
            _monitoring.register_callback(tool, start, _on_start)
        _monitoring.set_events(tool, start if on else 0)
        if not on:
            _monitoring.free_tool_id(tool)

else:

    def _resume() -> None:
        sys.setprofile(_on_event)

    def _on_event(frame, event, _argument) -> None:
        if event == "call":
            _count(frame.f_code.co_filename)

    @contextlib.contextmanager
    def _events() -> Iterator[None]:
        """Let the interpreter report each start of a function in this thread.

        Calls take twice as long then. Where a profiler runs, it stays, and none are counted.
        """
        if sys.getprofile() is not None:
            yield
            return
        sys.setprofile(_on_event)
        try:
            yield
        finally:
            sys.setprofile(None)
