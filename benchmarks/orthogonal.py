"""Orthogonal matrices: time against JAX's QR, and memory per device on a mesh of eight.

`python -m benchmarks.orthogonal` draws float32 matrices with `flaxinit.orthogonal` and with
`jax.nn.initializers.orthogonal`, jitted and in turns. The ratio is the median over turns, with the
range of the middle half. It also compiles flaxinit's draw for eight host devices, and reads from
the program the memory that each device needs for temporaries and for the result.
"""

import argparse
import json
import os
from pathlib import Path

SHAPES = ((1024, 1024), (2048, 2048), (4096, 4096), (8192, 1024))
RESULTS = Path(__file__).parent / "results"
DEVICES = 8
TURN = 0.5  # seconds: LAPACK's threads spin for a while after a QR and would slow down a short call


def race(shape: tuple[int, int], turns: int) -> dict:
    """Time both, and return the seconds and the ratio."""
    import jax

    import flaxinit
    from benchmarks.sampling import paired_times, ratio

    key = jax.random.key(0)
    ours = jax.jit(lambda key: flaxinit.orthogonal()(key, shape))
    theirs = jax.jit(lambda key: jax.nn.initializers.orthogonal()(key, shape))
    times = paired_times({"flaxinit": lambda: ours(key), "jax": lambda: theirs(key)}, turns, TURN)
    return {
        "shape": shape,
        "seconds": {name: min(spent) for name, spent in times.items()},
        "ratio": ratio(times, "jax", "flaxinit"),
    }


def memory(shape: tuple[int, int]) -> dict:
    """Return the bytes of temporaries and output on one device and on each of eight."""
    import jax

    import flaxinit

    key = jax.random.key(0)
    mesh = jax.make_mesh((DEVICES,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    found = {}
    for name, layout in (("alone", None), ("each of eight", sharding)):
        draw = jax.jit(lambda key, layout=layout: flaxinit.orthogonal()(key, shape, None, layout))
        use = draw.lower(key).compile().memory_analysis()
        if use is None:
            raise RuntimeError(f"{jax.default_backend()} does not report a program's memory.")
        found[name] = {"temporaries": use.temp_size_in_bytes, "result": use.output_size_in_bytes}
    peaks = {name: sum(parts.values()) for name, parts in found.items()}
    temporaries = [found[name]["temporaries"] for name in ("each of eight", "alone")]
    return {
        "bytes": found,
        "temporary_share": temporaries[0] / temporaries[1],
        "memory_share": peaks["each of eight"] / peaks["alone"],
    }


def plot(rows: list[dict], path: Path) -> None:
    """Plot the time ratio and the share of memory as bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    names = ["×".join(map(str, row["shape"])) for row in rows]
    ratios = [row["ratio"]["median"] for row in rows]
    whiskers = [
        [row["ratio"]["median"] - row["ratio"]["low"] for row in rows],
        [row["ratio"]["high"] - row["ratio"]["median"] for row in rows],
    ]
    left.bar(names, ratios, yerr=whiskers, color="#0072B2")
    left.axhline(1, color="black", linewidth=1)
    left.set_ylabel("throughput / jax.nn.initializers.orthogonal's")
    left.set_title(f"Without QR: {min(ratios):.1f} to {max(ratios):.1f} times as fast", fontsize=10)
    shares = [row["memory_share"] for row in rows]
    right.bar(names, shares, color="#E69F00")
    right.axhline(1 / DEVICES, color="black", linewidth=1, linestyle=":", label=f"1/{DEVICES}")
    right.set_ylim(0, 1)
    right.set_ylabel(f"memory of each of {DEVICES} devices / of one alone")
    right.set_title(f"On a mesh each needs {min(shares):.2f} to {max(shares):.2f}", fontsize=10)
    right.legend(loc="upper right", fontsize=8)
    for axis in (left, right):
        axis.set_xlabel("shape of the matrix, float32")
        axis.tick_params(axis="x", labelsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print the table, and write JSON and plot into the results folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to write")
    options = parser.parse_args()
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}"
    os.environ["XLA_FLAGS"] = flags  # before JAX starts its backend
    rows = []
    print(
        f"{'shape':>12}{'flaxinit s':>12}{'jax s':>10}{'ratio':>20}"
        f"{'temporaries':>14}{'memory':>10}   (one of {DEVICES} devices / one alone)"
    )
    for shape in SHAPES:
        row = race(shape, options.turns) | memory(shape)
        rows.append(row)
        seconds, turns = row["seconds"], row["ratio"]
        spread = f"({turns['low']:.1f}–{turns['high']:.1f})"
        print(
            f"{'×'.join(map(str, shape)):>12}{seconds['flaxinit']:12.3f}{seconds['jax']:10.2f}"
            f"{turns['median']:8.1f} {spread:>11}{row['temporary_share']:14.2f}"
            f"{row['memory_share']:10.2f}",
            flush=True,
        )
    from benchmarks.store import environment

    options.results.mkdir(exist_ok=True, parents=True)
    record = {"environment": environment(), "rows": rows}
    (options.results / "orthogonal.json").write_text(json.dumps(record, indent=1) + "\n")
    plot(rows, options.results / "orthogonal.png")


if __name__ == "__main__":
    main()
