"""Draw an orthogonal matrix without a QR decomposition, beside JAX, which makes one.

    python examples/orthogonal_without_qr.py

JAX factorizes a normal matrix by LAPACK, on GPUs by cuSOLVER. flaxinit draws the reflections that
the factorization would find, by their distribution (Stewart, 1980), and multiplies them: matrix
products alone, on every device and mesh.
"""

import re
import time

import jax
import numpy as np

import flaxinit

SIZE = 1024


def measured(init) -> tuple[np.ndarray, float, set[str]]:
    """Return a matrix, the processor seconds of its draw, and the libraries that it called."""
    key = jax.random.key(0)
    program = jax.jit(lambda key: init(key, (SIZE, SIZE))).lower(key).compile()
    called = set(re.findall(r'custom_call_target="([^"]+)"', program.as_text()))
    jax.block_until_ready(program(key))
    start = time.process_time()
    matrix = jax.block_until_ready(program(key))
    return np.asarray(matrix), time.process_time() - start, called


def main() -> None:
    ours, our_seconds, our_calls = measured(flaxinit.orthogonal())
    theirs, their_seconds, their_calls = measured(jax.nn.initializers.orthogonal())
    for name, matrix, seconds, calls in (
        ("flaxinit", ours, our_seconds, our_calls),
        ("JAX", theirs, their_seconds, their_calls),
    ):
        error = abs(matrix @ matrix.T - np.eye(SIZE)).max()
        calls = ", ".join(sorted(calls)) or "no library"
        print(f"{name}: {seconds:.3f} processor seconds, |WWᵀ - I| ≤ {error:.0e}, calls {calls}")
    assert not our_calls and their_calls
    print(f"JAX takes {their_seconds / our_seconds:.0f} times as long")


if __name__ == "__main__":
    main()
