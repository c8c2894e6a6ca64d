"""One file an experiment: each defines `EXPERIMENT`, and its file name is its name."""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module

from benchmarks import harness
from benchmarks.harness import Unit


@dataclass(frozen=True)
class Experiment:
    """A question, and the training that answers it.

    Args:
        question: one sentence.
        units: size (`smoke`, `laptop` or `pod`) -> the units to train.
    """

    question: str
    units: Callable[[str], list[Unit]]
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
