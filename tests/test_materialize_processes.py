"""Two processes that share a mesh make the arrays of one device, nearly all bit for bit."""

import ast
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from materialize_models import INIT_FUNCTIONS, MATRICES_OF_PRODUCTS

pytestmark = pytest.mark.slow
SEED = 11
NAMES = (
    "transformer with flaxinit",
    "scan, vmap, remat, jit",
    "nnx state",
    "haiku",
    "flaxinit bfloat16",
    "orthogonal",
    MATRICES_OF_PRODUCTS,
)
# Ends two processes that wait for each other, also on a machine that is busy with other work.
TIMEOUT_SECONDS = 1800


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Return what each process holds: (init function, path, index) -> array."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    script = str(Path(__file__).with_name("materialize_process.py"))
    processes = [
        subprocess.Popen(
            [sys.executable, script, address, "2", str(i), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )
        for i in range(2)
    ]
    try:
        outputs = [p.communicate(timeout=TIMEOUT_SECONDS)[0] for p in processes]
    finally:
        for p in processes:
            p.kill()
    assert [p.returncode for p in processes] == [0, 0], "\n".join(outputs)
    return [dict(np.load(folder / f"process{i}.npz")) for i in range(2)]


def test_each_process_holds_a_part(shards):
    split = [{key for key in held if not key.endswith("|[]")} for held in shards]
    assert split[0] - split[1] and split[1] - split[0]


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_make_the_arrays_of_one_device(name, shards):
    made = INIT_FUNCTIONS[name](jax.random.key(SEED))
    expected = {}
    for path, x in jax.tree_util.tree_leaves_with_path(made):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x = jax.random.key_data(x)
        expected[jax.tree_util.keystr(path)] = np.asarray(x)
    covered = {path: np.zeros(x.shape, bool) for path, x in expected.items()}
    for held in shards:
        for key, shard in held.items():
            init, path, where = key.split("|")
            if init == name:
                index = tuple(slice(*pair) for pair in ast.literal_eval(where))
                if name == MATRICES_OF_PRODUCTS:
                    np.testing.assert_allclose(shard, expected[path][index], atol=1e-6)
                else:
                    assert shard.tobytes() == expected[path][index].tobytes(), path
                covered[path][index] = True
    assert covered and all(mask.all() for mask in covered.values())
