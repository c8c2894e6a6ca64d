"""The supported stacks; `make stacks` tests each in its own environment and prints the table.

Everything that names versions reads them here: the table of docs/support.md,
the README's sentence, the workflow's matrix, .ci/run.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What older versions of JAX are for. Loops of activations and 64-bit meshes are the newer ones'.
PART = [
    "tests/test_initializers.py",
    "tests/test_initializers_jax.py",
    "tests/test_initializers_counterparts.py",
    "tests/test_initializers_family.py",
    "tests/test_initializers_orthogonal.py",
    "tests/test_initializers_recurrent.py",
    "tests/test_kernels.py",
    "tests/test_threefry.py",
    "tests/test_sampling_mesh.py",
    "tests/test_theory_derivation.py",
    "tests/test_theory_catalogue.py",
]


@dataclasses.dataclass(frozen=True)
class Stack:
    """Versions that go together, and whether all of flaxinit runs on them."""

    python: str
    jax: str
    flax: str
    whole: bool

    @property
    def pins(self) -> list[str]:
        return [f"jax=={self.jax}", f"jaxlib=={self.jax}", f"flax=={self.flax}"]

    @property
    def ran(self) -> str:
        return "whole suite" if self.whole else "initializers, `derive`"


STACKS = (
    Stack("3.11", "0.7.2", "0.12.0", whole=False),
    Stack("3.11", "0.8.3", "0.12.6", whole=False),
    Stack("3.12", "0.9.2", "0.12.6", whole=False),
    Stack("3.11", "0.10.0", "0.12.8", whole=True),
    Stack("3.11", "0.10.2", "0.12.8", whole=True),
    Stack("3.12", "0.11.2", "0.12.12", whole=True),
    Stack("3.13", "0.12.0.1", "0.12.12", whole=True),
)
LOWEST = next(stack for stack in STACKS if stack.whole)


def markdown() -> str:
    """Return the table of docs/support.md."""
    rows = [f"| {s.python} | {s.jax} | {s.flax} | {s.ran} |" for s in STACKS]
    return "\n".join(["| Python | jax | flax | tested |", "| --- | --- | --- | --- |", *rows])


def sentence() -> str:
    """Return what the README says of the table."""
    minor = [".".join(stack.jax.split(".")[:2]) for stack in STACKS]
    pythons = sorted({stack.python for stack in STACKS}, key=lambda v: int(v.split(".")[1]))
    whole = minor[STACKS.index(LOWEST)]
    return (
        f"Tested with Python {pythons[0]} to {pythons[-1]} and JAX {whole} to {minor[-1]}, "
        f"initializers and `derive` from JAX {minor[0]} on"
    )


def interpreter(version: str) -> str | None:
    """Where a Python is: among pyenv's, or on the PATH."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = sorted(pyenv.glob(f"{version}.*/bin/python"))
    return str(found[-1]) if found else shutil.which(f"python{version}")


def prove(stack: Stack) -> bool:
    """Build the stack's environment and run what is promised there."""
    python = interpreter(stack.python)
    if python is None:
        print(f"Python {stack.python} was not found: pyenv install {stack.python}")
        return False
    folder = ROOT / f".venv-{stack.python}-jax{stack.jax}"
    mine = folder / "bin" / "python"
    packages = ["-e", ".[test]"] if stack.whole else ["-e", ".", "pytest", "hypothesis"]
    commands = [
        [python, "-m", "venv", folder],
        [mine, "-m", "pip", "install", "--quiet", *packages, *stack.pins],
        [mine, "-m", "pytest", "-q", *([] if stack.whole else PART)],
    ]
    return all(subprocess.run(command, cwd=ROOT).returncode == 0 for command in commands)


def main(arguments: list[str]) -> int:
    """No argument: all stacks. ``jax VERSION``: that one. ``lowest``, ``matrix``: for CI."""
    match arguments:
        case ["lowest"]:
            print(*LOWEST.pins)
            return 0
        case ["matrix"]:
            print(json.dumps({"include": [{"python": s.python, "jax": s.jax} for s in STACKS]}))
            return 0
        case ["jax", version]:
            chosen = [stack for stack in STACKS if stack.jax == version]
        case []:
            chosen = list(STACKS)
        case _:
            chosen = []
    if not chosen:
        print(f"{main.__doc__} Versions: {', '.join(stack.jax for stack in STACKS)}.")
        return 2
    failed = [stack for stack in chosen if not prove(stack)]
    for stack in failed:
        print(f"failed: Python {stack.python}, {' '.join(stack.pins)}")
    print(markdown())
    return len(failed) > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
