"""One file an experiment: each defines `EXPERIMENT`, and its file name is its name."""

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
    """A question, the training that answers it, and how the answer is shown.

    Args:
        question: one sentence.
        units: size (`smoke`, `laptop` or `pod`) -> the units to measure: dataclasses of numbers
            and names, with a `title` and a size, `work`.
        view: what is said and shown of the records.
        measure: unit, and a function to call with shares of its work -> record.
    """

    question: str
    units: Callable[[str], list[Any]]
    view: View = curves.VIEW
    measure: Callable[..., dict] = harness.train


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        ValueError: there is none; the message has the nearest names.
    """
    known = names()
    if name not in known:
        near = get_close_matches(name, known) or known
        raise ValueError(
            f"unknown experiment {name!r}: did you mean {' or '.join(near)}? "
            "`python -m benchmarks list` shows all"
        )
    return import_module(f"{__name__}.{name}").EXPERIMENT


def rates(depth: int, count: int = 3) -> tuple[float, ...]:
    """Learning rates for a network of that depth: 0.02, 0.08, 0.32, ... over the depth.

    A step changes the output through every layer, so that the rate that a network bears falls
    with its depth (Saxe, McClelland, Ganguli 2014, section 3).
    """
    return tuple(0.02 * 4**i / depth for i in range(count))
