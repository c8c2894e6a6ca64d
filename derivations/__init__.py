"""The proof book: one derivation per page, with every step checked when the page is written.

    python -m derivations           write the whole book as Markdown and HTML
    python -m derivations gelu      write one page and print it
    python -m derivations --check   check every step of every page and write nothing

The proofs use only SymPy and mpmath. They share no code with the library's engine, so they are a
second, independent route to the same numbers.
"""

import importlib
from pathlib import Path

_PAGES = (Path(__file__).parent / "activations").glob("[!_]*.py")
ACTIVATIONS = tuple(sorted(path.stem for path in _PAGES))
"""Names of the activation pages: every module in `activations` is one."""

THEOREMS = (
    *("linear_layer", "he", "glorot", "lecun", "truncated_normal", "uniform", "haar"),
    *("arc_cosine", "edge_of_chaos", "gelu_criticality", "mixing", "residual", "siren", "width"),
)
"""Names of the theorem pages."""


def names() -> tuple[str, ...]:
    """Return the names of all pages, theorems first."""
    return THEOREMS + ACTIVATIONS


def write(name: str):
    """Write a page and check every step of it.

    Args:
        name: one of `names()`.

    Returns:
        The `Page`, with its blocks in reading order.

    Raises:
        ValueError: no page has this name; the message gives the nearest names.
        StepError: a step of the page does not hold.

    Examples:
        >>> write("relu").moments["second"].exact
        q/2
    """
    if name not in names():
        from difflib import get_close_matches

        near = get_close_matches(name, names(), n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Pages: {names()}."
        raise ValueError(f"The book has no page {name!r}. {hint}")
    room = "theorems" if name in THEOREMS else "activations"
    page = importlib.import_module(f"derivations.{room}.{name}").write()
    page.finish()
    return page


def moments(jobs: int = 2) -> dict[str, tuple]:
    """Return certified intervals of every activation's second moments at q = 1.

    Args:
        jobs: number of processes.

    Returns:
        name -> (E[φ²], E[φ'²]), each an `mpmath.iv` interval.
    """
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(jobs) as pool:
        found = pool.map(_bounds, ACTIVATIONS)
        return dict(zip(ACTIVATIONS, (tuple(map(_interval, pair)) for pair in found), strict=True))


def bounds(page) -> tuple:
    """Return the certified bounds of an activation page's E[φ²] and E[φ'²] at q = 1."""
    return tuple((page.moments[w].lower, page.moments[w].upper) for w in ("second", "backward"))


def _bounds(name: str) -> tuple:
    return bounds(write(name))


def _interval(bounds):
    from mpmath import iv

    return iv.mpf(list(bounds))
