"""How fast the engine is: `python -m benchmarks.engine`.

Each start-up is a fresh interpreter, several in turn with its reference, and the median of the
paired differences is printed; derivations are timed warm in this process.
"""

import statistics
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

REPEATS = 7


def seconds(code: str) -> float:
    """Wall time of a fresh interpreter that runs the code."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def startup() -> list[tuple[str, str, str]]:
    """Rows about cold starts, side by side with `import jax`."""
    rows = []
    codes = {
        "import flaxinit": "import jax, flaxinit",
        "he('gelu')": "import jax, flaxinit; flaxinit.he('gelu')",
        "derive(jax.nn.gelu)": "import jax, flaxinit; flaxinit.derive(jax.nn.gelu)",
    }
    for name, code in codes.items():
        pairs = [(seconds(code), seconds("import jax")) for _ in range(REPEATS)]
        total = statistics.median(a for a, _ in pairs)
        extra = statistics.median(a - b for a, b in pairs)
        rows.append((name, f"{total:.3f} s in all", f"{extra * 1e3:.0f} ms more than import jax"))
    return rows


def catalogue() -> list[tuple[str, str, str]]:
    """Rows about derivations and enclosures, warm."""
    from flaxinit.activations import gain
    from flaxinit.theory import CATALOGUE, derivation, enclosure, gaussian
    from flaxinit.theory.reading import read_activation
    from flaxinit.theory.terms import NoClosedForm

    whole, closed, enclosed = {}, [], []
    derivation.derive("linear")  # imports are not what is timed
    for name in CATALOGUE:
        start = time.perf_counter()
        found = derivation.derive(name)
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
