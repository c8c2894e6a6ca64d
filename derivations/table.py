"""Write `flaxinit/moments.json`, so that a named activation costs the library no derivation."""

from pathlib import Path

import mpmath

from derivations.digits import WORKING

MOMENTS = Path(__file__).parents[1] / "flaxinit" / "moments.json"


def nearest(bounds: tuple) -> float:
    """Return the float nearest to the middle of two certified bounds."""
    with mpmath.workdps(WORKING):
        return float((bounds[0] + bounds[1]) / 2)


def table(moments: dict[str, tuple]) -> str:
    """Return the file: name -> [E[φ²], E[φ'²]] at q = 1, from each moment's bounds, one a line.

    >>> print(table({"relu": ((0.5, 0.5), (0.5, 0.5))}))
    {
      "relu": [0.5, 0.5]
    }
    """
    rows = (f'  "{name}": {list(map(nearest, pair))}' for name, pair in moments.items())
    return "{\n" + ",\n".join(rows) + "\n}\n"
