"""The speed of the engine: `python -m benchmarks.engine`.

A cold start is the median over fresh interpreters. Derivations are timed warm, in this process.
"""

import statistics
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

REPEATS = 7


def seconds(code: str) -> tuple[float, float]:
    """Return a fresh interpreter's wall time, and the code's own time after ``import jax``."""
    timed = f"import jax, time; t = time.perf_counter(); {code}; print(time.perf_counter() - t)"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", timed], check=True, capture_output=True)
    return time.perf_counter() - start, float(done.stdout)


def startup() -> list[tuple[str, str, str]]:
    """Time cold starts."""
    rows = []
    codes = {
        "import flaxinit": "import flaxinit",
        "he('gelu')": "import flaxinit; flaxinit.he('gelu')",
        "derive(jax.nn.gelu)": "import flaxinit; flaxinit.derive(jax.nn.gelu)",
    }
    for name, code in codes.items():
        runs = [seconds(code) for _ in range(REPEATS)]
        whole, own = (statistics.median(run[i] for run in runs) for i in (0, 1))
        rows.append((name, f"{own * 1e3:.0f} ms after import jax", f"{whole:.2f} s in total"))
    return rows


def catalogue() -> list[tuple[str, str, str]]:
    """Time warm derivations and enclosures."""
    from flaxinit import gain
    from flaxinit.theory import CATALOGUE, derive
    from flaxinit.theory.moments import closed_form as gaussian, enclosure
    from flaxinit.theory.moments.terms import NoClosedForm
    from flaxinit.theory.reading.activation import read_activation

    whole, closed, enclosed = {}, [], []
    derive("linear")  # leaves imports out of the times
    for name in CATALOGUE:
        start = time.perf_counter()
        found = derive(name)
        whole[name] = time.perf_counter() - start
        for moment in (found.mean, found.second_moment, found.derivative_second_moment):
            start = time.perf_counter()
            try:
                gaussian.expectation(moment.pieces)
                closed.append(time.perf_counter() - start)
            except NoClosedForm:
                pass
            start = time.perf_counter()
            enclosure.enclose(moment.pieces)
            enclosed.append((time.perf_counter() - start, name))
    slowest = max(whole, key=whole.__getitem__)
    start = time.perf_counter()
    gain("gelu")
    lookup = time.perf_counter() - start
    read_activation("gelu")
    return [
        ("the whole catalogue", f"{sum(whole.values()):.2f} s", f"{len(whole)} activations"),
        (
            "one activation",
            f"median {statistics.median(whole.values()):.3f} s",
            f"at most {whole[slowest]:.3f} s ({slowest})",
        ),
        (
            "a closed form, warm",
            f"median {statistics.median(closed) * 1e3:.1f} ms",
            f"at most {max(closed) * 1e3:.0f} ms",
        ),
        (
            "an enclosure",
            f"median {statistics.median(t for t, _ in enclosed) * 1e3:.1f} ms",
            f"at most {max(enclosed)[0] * 1e3:.0f} ms ({max(enclosed)[1]})",
        ),
        ("gain('gelu') from the table", f"{lookup * 1e6:.0f} µs", ""),
    ]


def main() -> None:
    table = Table("what", "time", "", title="The engine")
    for row in startup() + catalogue():
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
