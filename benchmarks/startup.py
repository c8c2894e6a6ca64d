"""Cold time and memory of `fast_init` against the usual ways to make a model's parameters.

    python -m benchmarks.startup time      # all ways and depths, about a quarter of an hour
    python -m benchmarks.startup memory    # a model of 10^9 bfloat16 parameters on 8 devices
    python -m benchmarks.startup keys      # a thousand arrays, each from a key of its own
    python -m benchmarks.startup summary   # the ratios and the plot of the stored times

Every measurement is a fresh process without a compilation cache, and they run one at a time. The
clock starts when JAX is up and the input is on the device; it stops when every parameter is on the
device. Each way is measured several times, in turn with the others. Its fastest run counts, because
other work on the machine only adds time. Ways that compile the whole model take minutes and run
once. Processor seconds are given beside wall seconds.

The compile part of `fast_init` is everything between its first lowering and its last executable:
staging, XLA and LLVM, for samplers and key programs. It is given in processor seconds of all
threads, which measure the cost of compilation. Wall seconds would depend on how many compilations
found a free core.
"""

import argparse
import functools
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
DEPTHS = (12, 24, 48, 96)
REPEATS = 3
LINEN = ("fast_init", "lazy_init", "eager init", "jit(init)")
NNX = ("nnx fast_init", "nnx eager", "nnx.jit")
# The rivals of each way: one that compiles the whole model, and those that compile each draw.
RIVALS = {
    "fast_init": ("jit(init)", ("lazy_init", "eager init")),
    "nnx fast_init": ("nnx.jit", ("nnx eager",)),
}
# How hand-written models split their keys, and the number of keys.
IDIOMS, KEYS = ("keys[i]", "for k in keys", "fold_in"), 1000
WIDTH, HEADS, VOCABULARY, LENGTH = 256, 8, 1000, 16
KINDS = {"seconds": "wall seconds", "processor_seconds": "processor seconds"}


def linen_transformer(depth, width=WIDTH, heads=HEADS, vocabulary=VOCABULARY, dtype=None):
    """Return a pre-LN transformer."""
    import flax.linen as nn
    import jax.numpy as jnp

    kinds = {"param_dtype": dtype or jnp.float32, "dtype": dtype}

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = nn.LayerNorm(**kinds)(x)
            x = x + nn.MultiHeadDotProductAttention(num_heads=heads, **kinds)(h, h)
            h = nn.gelu(nn.Dense(4 * width, **kinds)(nn.LayerNorm(**kinds)(x)))
            return x + nn.Dense(width, **kinds)(h)

    class Transformer(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            x = nn.Embed(vocabulary, width, **kinds)(tokens)
            for _ in range(depth):
                x = Block()(x)
            return nn.Dense(vocabulary, **kinds)(nn.LayerNorm(**kinds)(x))

    return Transformer()


def nnx_transformer(depth, key):
    """Make the same layers as NNX modules."""
    from flax import nnx

    class Block(nnx.Module):
        def __init__(self, rngs):
            self.norms = nnx.List([nnx.LayerNorm(WIDTH, rngs=rngs) for _ in range(2)])
            self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, rngs=rngs, decode=False)
            self.up = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
            self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

    class Transformer(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
            self.blocks = nnx.List([Block(rngs) for _ in range(depth)])
            self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
            self.readout = nnx.Linear(WIDTH, VOCABULARY, rngs=rngs)

    return Transformer(nnx.Rngs(key))


def measure_time(way: str, depth: int) -> dict:
    """Time one way from a model to all its parameters, in this process."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    import flaxinit

    fast_init = flaxinit.fast_init  # imported now, as Flax is
    key, tokens = jax.random.key(0), jnp.zeros((1, LENGTH), jnp.int32)
    model = linen_transformer(depth)
    make = functools.partial(nnx_transformer, depth)
    reports = []
    run = {
        "fast_init": lambda: fast_init(model.init, report=reports.append)(key, tokens),
        "lazy_init": lambda: model.lazy_init(key, jax.ShapeDtypeStruct(tokens.shape, tokens.dtype)),
        "eager init": lambda: model.init(key, tokens),
        "jit(init)": lambda: jax.jit(model.init)(key, tokens),
        "nnx fast_init": lambda: fast_init(make, report=reports.append)(key),
        "nnx eager": lambda: make(key),
        "nnx.jit": lambda: nnx.jit(make)(key),
    }[way]
    jax.block_until_ready((key, tokens))
    wall, processor = time.perf_counter(), time.process_time()
    made = run()
    jax.block_until_ready(nnx.state(made) if isinstance(made, nnx.Module) else made)
    row = {
        "way": way,
        "depth": depth,
        "seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - processor,
    }
    for report in reports:
        row |= {
            "trace": report.trace_seconds,
            "keys": report.key_seconds,
            "compile": report.compile_seconds,
            "compile_processor": report.compile_processor_seconds,
            "draw": report.draw_seconds,
            "groups": len(report.groups),
        }
    return row


def measure_keys(way: str, idiom: str) -> dict:
    """Time one way from a key to many small arrays, each drawn from its own key."""
    import jax

    import flaxinit

    def keys(key):
        if idiom == "fold_in":
            return [jax.random.fold_in(key, i) for i in range(KEYS)]
        table = jax.random.split(key, KEYS)
        return table if idiom == "for k in keys" else [table[i] for i in range(KEYS)]

    def make(key):
        return [0.1 * jax.random.normal(k, (8, 32)) for k in keys(key)]

    key = jax.block_until_ready(jax.random.key(0))
    run = flaxinit.fast_init(make) if way == "fast_init" else make
    wall, processor = time.perf_counter(), time.process_time()
    jax.block_until_ready(run(key))
    return {
        "way": way,
        "idiom": idiom,
        "seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - processor,
    }


def compare_keys() -> list[dict]:
    """Time `fast_init` and an eager run in turns; the fastest run of each counts."""
    rows = []
    for idiom in IDIOMS:
        for way in ("fast_init", "eager init") * REPEATS:
            rows.append(in_fresh_process("one-keys", "--way", way, "--idiom", idiom))
        best = {
            way: min(r["processor_seconds"] for r in rows if (r["way"], r["idiom"]) == (way, idiom))
            for way in ("fast_init", "eager init")
        }
        print(
            f"{KEYS} arrays, {idiom}: fast_init {best['fast_init']:.2f} processor seconds, "
            f"eager {best['eager init']:.2f}: {best['eager init'] / best['fast_init']:.2f} times "
            "as fast",
            flush=True,
        )
    return rows


def measure_memory() -> dict:
    """Measure the peak memory of making 10^9 parameters on 8 host devices, in this process.

    20 layers of width 2048 have 12 · 2048² · 20 ≈ 1.007 · 10^9 weights. The memory of the
    initialization is the peak of the resident set minus its size before. The eight devices are the
    host's, so this includes their memory.
    """
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec as P

    import flaxinit

    model = linen_transformer(20, width=2048, heads=16, vocabulary=VOCABULARY, dtype=jnp.bfloat16)
    mesh = jax.make_mesh((8,), ("model",))

    def rule(path, x):
        divisible = [i for i, n in enumerate(x.shape) if n % 8 == 0]
        largest = max(divisible, key=lambda i: x.shape[i], default=None)
        return NamedSharding(mesh, P(*("model" if i == largest else None for i in range(x.ndim))))

    reports = []
    jax.block_until_ready(jax.device_put(jnp.zeros(8), NamedSharding(mesh, P("model"))))
    before = resident("VmRSS")
    params = flaxinit.fast_init(model.init, rule, report=reports.append)(
        jax.random.key(0), jax.ShapeDtypeStruct((1, LENGTH), jnp.int32)
    )
    jax.block_until_ready(params)
    leaves = jax.tree.leaves(params)
    size = sum(x.nbytes for x in leaves)
    on_device = [
        sum(s.data.nbytes for x in leaves for s in x.addressable_shards if s.device == d)
        for d in jax.devices()
    ]
    return {
        "parameters": sum(x.size for x in leaves),
        "bytes": size,
        "peak_bytes": resident("VmHWM") - before,
        "peak_over_size": (resident("VmHWM") - before) / size,
        "bytes_on_each_device": on_device,
        "device_over_eighth": max(on_device) * 8 / size,
        "device_peak_over_eighth": reports[0].peak_bytes_per_device * 8 / size,
        "seconds": reports[0].total_seconds,
    }


def resident(field: str) -> int:
    """Return the bytes of this process's resident set on Linux: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def in_fresh_process(*arguments: str, limit: float | None = None, **environment: str) -> dict:
    """Run one measurement in a fresh process, where nothing has been compiled or cached.

    Raises:
        subprocess.TimeoutExpired: it took longer than the limit.
        subprocess.CalledProcessError: it failed; `stderr` says why.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.startup", *arguments],
        env=clean | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=limit,
    )
    return json.loads(done.stdout.splitlines()[-1])


def fastest(rows: list[dict], way: str, field: str) -> dict[int, float]:
    """Return, for each depth, the smallest `field` of all runs."""
    depths = sorted({r["depth"] for r in rows if r["way"] == way})
    return {d: min(r[field] for r in rows if (r["way"], r["depth"]) == (way, d)) for d in depths}


def summary(rows: list[dict]) -> str:
    """Say how many times as fast as its rivals `fast_init` is, and what compiling costs."""
    lines = []
    for way, (compiling, others) in RIVALS.items():
        for field, label in KINDS.items():
            mine, whole = fastest(rows, way, field), fastest(rows, compiling, field)
            rest = [fastest(rows, other, field) for other in others]
            for depth, seconds in mine.items():
                best = min(times[depth] for times in rest)
                lines.append(
                    f"{way}, {depth} layers: {seconds:.2f} {label}, {best / seconds:.1f} times as "
                    f"fast as the best of {', '.join(others)}; "
                    f"{whole[depth] / seconds:.1f} times as fast as {compiling}"
                )
        for field, label in (("compile_processor", "processor"), ("compile", "wall")):
            parts = fastest(rows, way, field)
            (first, least), (last, most) = min(parts.items()), max(parts.items())
            lines.append(
                f"{way}, compile part: {least:.2f} {label} seconds at {first} layers, {most:.2f} "
                f"at {last}, {most / least - 1:+.0%}"
            )
    return "\n".join(lines)


def plot(rows: list[dict]) -> None:
    """Plot cold time against depth: wall above processor seconds, Linen left and NNX right.

    The dashed line is the compile part of `fast_init`.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(
        2, 2, figsize=(9, 7), sharex=True, sharey=True, layout="constrained"
    )
    for axes, (field, label) in zip(grid, KINDS.items(), strict=True):
        for ax, ways, title in zip(axes, (LINEN, NNX), ("Linen", "NNX"), strict=True):
            for way in ways:
                mine = sorted(fastest(rows, way, field).items())
                width = 2.5 if "fast_init" in way else 1.2
                (line,) = ax.plot(*zip(*mine, strict=True), marker="o", label=way, linewidth=width)
                if way in RIVALS and field == "processor_seconds":
                    parts = sorted(fastest(rows, way, "compile_processor").items())
                    style = {"color": line.get_color(), "linestyle": "--"}
                    ax.plot(*zip(*parts, strict=True), label="compile part", **style)
            ax.set(xscale="log", yscale="log", title=f"{title}, {label}")
            ax.set_xticks(DEPTHS, DEPTHS)
            ax.minorticks_off()
            ax.legend(frameon=False, loc="upper left")
            ax.grid(alpha=0.3)
    for ax in grid[1]:
        ax.set_xlabel("layers")
    figure.suptitle("From model to parameters, cold: pre-LN transformer, width 256, 8 heads")
    figure.savefig(RESULTS / "startup.png", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description="Cold time and memory of fast_init.")
    parser.add_argument(
        "what", choices=("time", "memory", "keys", "summary", "one-time", "one-memory", "one-keys")
    )
    parser.add_argument("--way")
    parser.add_argument("--idiom", choices=IDIOMS)
    parser.add_argument("--depth", type=int)
    arguments = parser.parse_args()
    match arguments.what:
        case "one-time":
            print(json.dumps(measure_time(arguments.way, arguments.depth)))
        case "one-memory":
            print(json.dumps(measure_memory()))
        case "one-keys":
            print(json.dumps(measure_keys(arguments.way, arguments.idiom)))
        case "keys":
            rows = compare_keys()
            (RESULTS / "startup_keys.json").write_text(json.dumps(rows, indent=1) + "\n")
        case "memory":
            row = in_fresh_process(
                "one-memory", XLA_FLAGS="--xla_force_host_platform_device_count=8"
            )
            print(json.dumps(row, indent=1))
            (RESULTS / "startup_memory.json").write_text(json.dumps(row, indent=1) + "\n")
        case "time":
            rows = []
            for depth, repeat in itertools.product(DEPTHS, range(REPEATS)):
                for way in (*LINEN, *NNX):
                    if repeat == 0 or "jit" not in way:
                        row = in_fresh_process("one-time", "--way", way, "--depth", str(depth))
                        rows.append(row)
                        print(json.dumps(row), flush=True)
                        (RESULTS / "startup.json").write_text(json.dumps(rows, indent=1) + "\n")
            plot(rows)
            print(summary(rows))
        case "summary":
            rows = json.loads((RESULTS / "startup.json").read_text())
            plot(rows)
            print(summary(rows))


if __name__ == "__main__":
    main()
