"""The proof book: one worked derivation a page, each step checked when the page is written.

    python -m derivations           the whole book, to Markdown and HTML
    python -m derivations gelu      one page, to the terminal and to its file
    python -m derivations --check   every step of every page, nothing written

The book uses SymPy and mpmath alone. It shares no code with the library's engine: it is the
second, independent route to the same numbers.
"""

import importlib
from pathlib import Path

_PAGES = (Path(__file__).parent / "activations").glob("[!_]*.py")
ACTIVATIONS = tuple(sorted(path.stem for path in _PAGES))
"""Names of the activation pages: every module in `activations` is one."""

THEOREMS = (
    *("linear_layer", "he", "glorot", "lecun", "truncated_normal", "uniform", "haar"),
    *("arc_cosine", "edge_of_chaos", "gelu_criticality", "residual", "siren"),
)
"""Names of the theorem pages."""


def names() -> tuple[str, ...]:
    """All pages, theorems first."""
    return THEOREMS + ACTIVATIONS


def write(name: str):
    """Write a page, checking every step.

    Args:
        name: one of `names()`.

    Returns:
        The `Page`, with its blocks in reading order.

    Raises:
        ValueError: there is no such page; the message gives the nearest names.
        StepError: a step of the page does not hold.

    Examples:
        >>> write("relu").moments["second"].exact
        q/2
    """
    if name not in names():
        from difflib import get_close_matches

        near = get_close_matches(name, names(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"pages: {names()}"
        raise ValueError(f"the book has no page {name!r}; {hint}")
    room = "theorems" if name in THEOREMS else "activations"
    page = importlib.import_module(f"derivations.{room}.{name}").write()
    page.finish()
    return page


def moments(jobs: int = 2) -> dict[str, tuple]:
    """The second moments of every activation at q = 1, as certified intervals.

    Args:
        jobs: processes to use.

    Returns:
        name -> (E[φ²], E[φ'²]), each an `mpmath.iv` interval.
    """
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(jobs) as pool:
        found = pool.map(_bounds, ACTIVATIONS)
        return dict(zip(ACTIVATIONS, (tuple(map(_interval, pair)) for pair in found), strict=True))


def bounds(page) -> tuple:
    """The certified bounds of an activation page's E[φ²] and E[φ'²] at q = 1."""
    return tuple((page.moments[w].lower, page.moments[w].upper) for w in ("second", "backward"))


def _bounds(name: str) -> tuple:
    return bounds(write(name))


def _interval(bounds):
    from mpmath import iv

    return iv.mpf(list(bounds))
