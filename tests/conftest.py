"""Settings of the whole suite: eight host devices, so that meshes are real, and strict dtypes."""

import contextlib
import gc
import hashlib
import os
import shutil
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

# Nor are NumPy's products: their threads would only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

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
def kept_by_case(request):
    """Return a context that keeps the programs with custom partitioning which one case compiles.

    The text by which JAX finds a program names such a draw by a pointer, which is another one in
    the next process, and does not say what it computes. So inside, the pointer does not count, and
    the folder stands for what does: the case, the code of the test, and the code of the draws.
    A case must not draw the same shape in two ways on one mesh: make it two cases.
    """
    package = request.config.rootpath / "flaxinit"
    sources = [request.path, package / "sampling.py", package / "fans.py"]
    for room in ("initializers", "versions"):
        sources += sorted((package / room).glob("*.py"))
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    case = hashlib.sha256(request.node.nodeid.encode()).hexdigest()
    if not (usual := jax.config.jax_compilation_cache_dir):
        return contextlib.nullcontext
    folder = Path(usual, "cases", case[:16], code[:16])
    for old in folder.parent.glob("*"):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)

    def use(path, ignored):
        compilation_cache.reset_cache()
        jax.config.update("jax_compilation_cache_dir", path)
        jax.config.update("jax_remove_custom_partitioning_ptr_from_cache_key", ignored)

    @contextlib.contextmanager
    def kept():
        use(str(folder), True)
        try:
            yield
        finally:
            use(usual, False)

    return kept


@pytest.fixture
def executors(monkeypatch):
    """List the executors that a test makes, with what they have compiled."""
    from flaxinit.materialize.execute import Executor  # which older versions of JAX do not have

    made, original = [], Executor.__init__
    monkeypatch.setattr(Executor, "__init__", lambda self: (made.append(self), original(self))[1])
    return made
