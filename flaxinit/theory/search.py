"""Roots of a function that is dear to evaluate, and may not be known everywhere."""

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

_JUMP = 1e-6  # a function that is larger than this at its root has leapt over 0


def find_root(function: Callable[[float], float], low: float, high: float, rtol=1e-14) -> float:
    """Brent's root of a function that changes its sign between low and high."""
    # Half a second to import, and most derivations ask for no root.
    from scipy.optimize import brentq

    return float(brentq(function, low, high, xtol=1e-300, rtol=rtol))


def find_roots(function: Callable[[float], float], grid: Sequence[float]) -> list[float]:
    """The roots that a grid of positive numbers shows: crossings, touchings and isolated zeros.

    Two or more zeros in a row are a stretch on which the function vanishes, not a root. What is
    nan is not known, and nothing is found beside it.

    >>> cubic = lambda x: round((x - 3) * (x - 5) ** 2, 12)  # what is 0 to rounding is 0
    >>> [round(x, 5) for x in find_roots(cubic, [1, 2, 4, 8, 16])]
    [3.0, 5.0]
    """
    from scipy.optimize import minimize_scalar

    def cross(low: float, high: float) -> list[float]:
        with contextlib.suppress(_NotKnown):
            root = find_root(known, low, high)
            return [root] if abs(known(root)) < _JUMP else []
        return []

    def known(x: float) -> float:
        if math.isnan(value := function(x)):
            raise _NotKnown
        return value

    function = functools.cache(function)
    grid = _where_it_may_touch(function, grid)
    values = np.array([function(x) for x in grid])
    roots = []
    for i, x in enumerate(grid[:-1]):
        before, here, after = values[i - 1] if i else math.nan, values[i], values[i + 1]
        if here == 0 and abs(before) > 0 and abs(after) > 0:
            roots.append(x)
        elif before * here > 0 and here * after > 0 and abs(here) <= min(abs(before), abs(after)):
            ends = math.log(grid[i - 1]), math.log(grid[i + 1])
            nearest = minimize_scalar(
                lambda t, here=here: function(math.exp(t)) / here,
                bounds=ends,
                options={"xatol": 1e-10},
            )
            place = math.exp(nearest.x)
            if nearest.fun == 0:
                roots.append(place)
            elif nearest.fun < 0:  # it crosses twice between two places of the grid
                roots += cross(grid[i - 1], place) + cross(place, grid[i + 1])
        if here * after < 0:
            roots += cross(x, grid[i + 1])
    return roots


class _NotKnown(Exception):
    """A root lies where the function is not known."""


def _where_it_may_touch(function: Callable[[float], float], grid: Sequence[float]) -> list[float]:
    """The grid, finer where a function that bends as it does there may reach 0 and turn back."""
    values = np.array([function(x) for x in grid])
    bends = np.abs(np.diff(values, 2, prepend=math.nan, append=math.nan)) / 8
    finer = []
    for i, (low, high) in enumerate(itertools.pairwise(grid)):
        a, b, bend = values[i], values[i + 1], np.fmax(bends[i], bends[i + 1])
        near = a * b > 0 and min(abs(a), abs(b)) <= 2 * bend
        finer += np.geomspace(low, high, 9)[:-1].tolist() if near else [low]
    return [*finer, grid[-1]]
