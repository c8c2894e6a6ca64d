"""The forecast of a decoder with 80 layers of width 8192, from shapes alone.

    python -m benchmarks.large [--blocks 80] [--width 8192] [--backward]

It prints the processor seconds and the peak memory of the process, and what the forecast says of
the residual stream. No parameter is drawn.
"""

import argparse
import resource
import time

import jax
import numpy as np

import flaxinit
from benchmarks.zoo import Decoder

HEAD, GROUPS, VOCABULARY = 128, 8, 128_256
SAMPLES, PLACES = 4, 32


def main() -> None:
    """Forecast the decoder and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--blocks", type=int, default=80)
    parser.add_argument("--width", type=int, default=8192)
    parser.add_argument("--backward", action="store_true", help="forecast gradients as well")
    options = parser.parse_args()
    heads = options.width // HEAD
    model = Decoder(options.width, options.blocks, heads, min(GROUPS, heads), VOCABULARY)
    tokens = jax.random.randint(jax.random.key(0), (SAMPLES, PLACES), 0, VOCABULARY)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens)
    count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes))
    start = time.process_time()
    report = flaxinit.forecast(model, tokens, backward=options.backward)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kilobytes on Linux
    first, last = report.stream[0].second_moment, report.stream[-1].second_moment
    print(
        f"{options.blocks} blocks, {count / 1e9:.1f} billion parameters: {seconds:.0f} processor "
        f"seconds, {peak:.1f} GiB; the stream's second moment goes from {first:.3g} to {last:.3g}"
    )


if __name__ == "__main__":
    main()
