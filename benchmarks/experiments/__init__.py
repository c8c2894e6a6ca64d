"""The experiments, one per file: each defines `EXPERIMENT` and is named after its file."""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from benchmarks import curves, harness
from benchmarks.view import View


@dataclass(frozen=True)
class Experiment:
    """A question, the training that answers it, and the view of the answer.

    Args:
        question: one sentence.
        units: size (`smoke`, `laptop` or `pod`) -> the units to measure: dataclasses of numbers
            and names, with a `title` and an amount of `work`.
        view: how the records are reported.
        measure: measures a unit, calls a function with each finished share of the work, and
            returns the record.
    """

    question: str
    units: Callable[[str], list[Any]]
    view: View = curves.VIEW
    measure: Callable[..., dict] = harness.train


def names() -> list[str]:
    """Return the names of all experiments."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Experiment:
    """Return the experiment of that name.

    Raises:
        ValueError: no experiment has this name; the message gives the nearest names.
    """
    known = names()
    if name not in known:
        near = get_close_matches(name, known) or known
        raise ValueError(
            f"There is no experiment {name!r}: did you mean {' or '.join(near)}? "
            "`python -m benchmarks list` shows all experiments."
        )
    return import_module(f"{__name__}.{name}").EXPERIMENT


def rates(depth: int, count: int = 3) -> tuple[float, ...]:
    """Return learning rates for a network of that depth: 0.02, 0.08, 0.32, ... over the depth.

    A step changes the output through every layer, so the largest stable rate falls with the depth.

    References: Saxe, McClelland, Ganguli (2014), section 3.
    """
    return tuple(0.02 * 4**i / depth for i in range(count))
