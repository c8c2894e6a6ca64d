"""Packages import only from packages below them, and importing flaxinit is cheap."""

import ast
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flaxinit

ROOT = Path(flaxinit.__file__).parent
# Bottom to top. A module belongs to the first entry that its name starts with; modules that
# share a line share a room.
ROOMS = [
    ("flaxinit.versions.compat",),
    ("flaxinit.versions",),
    (
        "flaxinit.trees.paths",
        "flaxinit.trees.modules",
        "flaxinit.trees.factors",
        "flaxinit.trees.patterns",
    ),
    ("flaxinit.sampling",),
    ("flaxinit.fans",),
    ("flaxinit.catalogue",),
    ("flaxinit.initializers",),
    ("flaxinit.theory.functions",),
    ("flaxinit.theory.reading",),
    ("flaxinit.theory.moments",),
    ("flaxinit.theory.meanfield",),
    ("flaxinit.theory.report",),
    ("flaxinit.theory.derivation",),
    ("flaxinit.theory.engine",),
    ("flaxinit.theory",),
    ("flaxinit.kernels",),
    ("flaxinit.mixing",),
    ("flaxinit.trees",),
    ("flaxinit.recipes",),
    ("flaxinit.signal",),
    ("flaxinit.width",),
    ("flaxinit.materialize",),
    ("flaxinit.cli", "flaxinit.__main__"),
]
OUTSIDE = ("derivations", "tests", "benchmarks")
# What each room of the theory may import of the others.
THEORY = {
    "functions": set(),
    "reading": {"functions"},
    "moments": {"functions"},
    "meanfield": {"functions", "moments"},
    "report": {"functions", "moments", "meanfield"},
}
# What each room of the signal may import of the others; `audit` and `forecast` stand above them.
SIGNAL = {
    "samples": set(),
    "rules": {"samples"},
    "shards": {"rules"},
    "reading": {"samples", "rules", "shards"},
    "measuring": {"samples"},
    "reports": {"samples", "measuring"},
    "tuning": {"samples", "rules", "shards", "reading", "reports", "forecast"},
}
# The steps of fast_init, and what they need, in the order in which they may import each other.
MATERIALIZE = (
    *("shardings", "fingerprint", "eager_calls", "leaks", "report", "layouts", "trace", "flatten"),
    *("partition", "segment", "out_shardings", "places", "compile", "keys", "execute", "api"),
)
# Who may import what only some users have loaded.
SYMPY = ("flaxinit.theory", "flaxinit.cli", "flaxinit.signal")
FLAX = ("flaxinit.signal", "flaxinit.materialize", "flaxinit.cli")


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path, name: str):
    """Every module a file imports, inside functions too, but for TYPE_CHECKING blocks."""
    tree = ast.parse(path.read_text())
    typing_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            folder = ROOT.parent.joinpath(*node.module.split("."))
            for alias in node.names:
                inside = folder / alias.name
                is_module = inside.is_dir() or inside.with_suffix(".py").exists()
                yield f"{node.module}.{alias.name}" if is_module else node.module


def room(name: str) -> int | None:
    for level, prefixes in enumerate(ROOMS):
        if any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes):
            return level
    return None


def in_any(name: str, prefixes) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda value: str(value))
def test_a_module_imports_only_from_below(name, path):
    if name == "flaxinit":
        return
    level = room(name)
    assert level is not None, f"{name} belongs to no room: add it to ROOMS"
    for imported in imports(path, name):
        assert not in_any(imported, OUTSIDE), f"{name} imports {imported}"
        other = room(imported)
        assert other is None or other <= level, f"{name} imports {imported}, a room above it"
        if in_any(imported, ("sympy", "mpmath", "flint")):
            assert in_any(name, SYMPY), f"{name} imports {imported}"
        if in_any(imported, ("flax",)):
            assert in_any(name, FLAX), f"{name} imports {imported}"
        assert not in_any(imported, ("matplotlib.pyplot",)) or in_any(name, FLAX)


def imports_of_a_room(package: str, name: str, allowed):
    """Every import in a room of a package, each of which may be of the rooms that are allowed."""
    files = [(n, path) for n, path in modules() if n.startswith(f"flaxinit.{package}.{name}.")]
    assert files
    for module, path in files:
        for imported in imports(path, module):
            if imported.startswith(f"flaxinit.{package}"):
                assert imported.split(".")[2] in allowed[name] | {name}, f"{module}: {imported}"
            yield module, imported


@pytest.mark.parametrize("name", THEORY)
def test_a_room_of_the_theory_imports_what_it_may(name):
    """The reading alone knows JAX, and neither it nor the moments know each other."""
    for module, imported in imports_of_a_room("theory", name, THEORY):
        assert not in_any(imported, ("jax", "flaxinit.versions.jaxpr")) or name == "reading", module


@pytest.mark.parametrize("name", SIGNAL)
def test_a_room_of_the_signal_imports_what_it_may(name):
    assert list(imports_of_a_room("signal", name, SIGNAL))


def test_contributing_names_every_room():
    text = (ROOT.parent / "CONTRIBUTING.md").read_text()
    table = text.partition("## Where things are")[2].partition("\n## ")[0]
    inside = [*ROOMS, [f"flaxinit.theory.{name}" for name in THEORY], SIGNAL]
    for name in itertools.chain.from_iterable(inside):
        last = name.rpartition(".")[2]
        assert last == "__main__" or re.search(rf"[`/]{last}(?:/|\.py)?`", table), name


def test_a_step_of_fast_init_imports_none_after_it():
    files = {n.split(".")[-1]: path for n, path in modules() if "flaxinit.materialize." in n}
    assert set(files) == set(MATERIALIZE)
    for step, path in files.items():
        for imported in imports(path, step):
            if imported.startswith("flaxinit.materialize."):
                assert MATERIALIZE.index(imported.split(".")[2]) < MATERIALIZE.index(step), step


def test_the_reader_of_imports_sees_a_circle(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from flaxinit.kernels import he\n")
    (imported,) = imports(bad, "flaxinit.sampling")
    assert room(imported) > room("flaxinit.sampling")


@pytest.mark.parametrize("use", ["", "flaxinit.he('gelu'); flaxinit.zeros; flaxinit.gain('tanh')"])
def test_import_loads_no_heavy_package(use):
    program = (
        f"import sys, flaxinit; {use}\n"
        "heavy = {'sympy', 'mpmath', 'flint', 'flax', 'matplotlib', 'optax'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_a_linen_model_is_tuned_where_nnx_is_not_loaded():
    program = (
        "import sys, flax.linen as nn, jax, flaxinit\n"
        "x = jax.ShapeDtypeStruct((4, 8), 'float32')\n"
        "loaded = 'flax.nnx' in sys.modules\n"
        "flaxinit.tune(nn.Dense(3), x)(jax.random.key(0), jax.numpy.ones((4, 8)))\n"
        "sys.exit('NNX was loaded' if loaded else 0)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_every_public_name_is_reachable_and_documented():
    for name in flaxinit.__all__:
        value = getattr(flaxinit, name)
        assert value.__doc__, f"flaxinit.{name} has no docstring"
    assert set(flaxinit.__all__) <= set(dir(flaxinit))
    with pytest.raises(AttributeError, match=r"no attribute 'hee'. Did you mean 'he'\?"):
        flaxinit.hee
    assert flaxinit.theory.z.name == "z" and flaxinit.__version__


@pytest.mark.parametrize(
    "room", [flaxinit.recipes, flaxinit.theory], ids=lambda room: room.__name__
)
def test_a_room_shows_its_public_names_and_no_modules(room):
    public = {name for name in vars(room) if not name.startswith("_")}
    public = {name for name in public if not isinstance(getattr(room, name), type(sys))}
    assert dir(room) == sorted(public)


def test_no_module_has_a_public_name():
    """Importing one would put the module in the name's place."""
    assert not {path.stem for path in ROOT.iterdir()} & set(flaxinit.__all__)
