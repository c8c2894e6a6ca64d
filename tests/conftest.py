"""Settings of the whole suite: eight host devices, so that meshes are real, and strict dtypes."""

import gc
import os
import sys
from pathlib import Path

# What one test compiles is not compiled again: not in this process, in those that tests start, nor
# in the next run.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(sys.prefix, "cache", "jax")))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# This comes before JAX starts its backend. A mesh of host devices shards as one of accelerators.
# A program is not split for code to be generated in parallel: the cores have other tests to run.
# pytest's workers inherit what is set here. A program is kept by its flags, so none is given twice.
os.environ["XLA_FLAGS"] = " ".join(
    dict.fromkeys(
        (
            *os.environ.get("XLA_FLAGS", "").split(),
            "--xla_force_host_platform_device_count=8",
            "--xla_cpu_parallel_codegen_split_count=1",
        )
    )
)

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")

# Scripts: importing the first would set its devices here, and the second needs PyTorch.
collect_ignore = ["materialize_process.py", "mup_for_pytorch.py"]


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="run one case of each test, none slow")


def pytest_collection_modifyitems(config, items):
    """With ``--quick``, keep the first case of each test that is not slow."""
    if config.getoption("quick"):
        kept = {}
        for item in items:
            if not item.get_closest_marker("slow"):
                kept.setdefault(item.nodeid.partition("[")[0], item)
        first = list(kept.values())
        chosen = set(first)
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = first


def pytest_collection_finish():
    """Exempt what imports made from garbage collection: it stays, and fast_init may collect."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def executors(monkeypatch):
    """List the executors that a test makes, with what they have compiled."""
    from flaxinit.materialize.execute import Executor  # which older versions of JAX do not have

    made, original = [], Executor.__init__
    monkeypatch.setattr(Executor, "__init__", lambda self: (made.append(self), original(self))[1])
    return made
