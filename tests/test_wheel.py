"""What is released: the wheel holds the library, and works where no source tree is."""

import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import flaxinit

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What a build reads, and the tests, which it must leave out.
PARTS = ["pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "flaxinit", "tests"]
pytestmark = pytest.mark.slow  # two builds, and JAX in a new process


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build both distributions from a copy, since a build leaves files in its tree."""
    tree, made = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tree / part)
    program = (
        "import sys; from setuptools import build_meta; target = sys.argv[1]\n"
        "build_meta.build_sdist(target); build_meta.build_wheel(target)"
    )
    run([sys.executable, "-c", program, made], tree)
    return made


@pytest.fixture(scope="module")
def python(built, tmp_path_factory):
    """Return the Python of an environment with the wheel, and with what this one has for it."""
    folder = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", "--without-pip", folder], folder)
    python = folder / "bin" / "python"
    wheel = next(built.glob("*.whl"))
    run([sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", wheel], folder)
    # A path in a .pth file is searched last, and its own .pth files, as of an editable install,
    # are not read.
    packages = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder)
    Path(packages.strip(), "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return python


def run(command: list, folder: Path) -> str:
    """Return what a command prints; the source tree is not on its path."""
    done = subprocess.run(
        command, cwd=folder, env={"PATH": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def library() -> set[str]:
    """Return the files of the package in the source tree."""
    files = (path for path in (ROOT / "flaxinit").rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in files if path.suffix != ".pyc"}


def test_the_wheel_is_the_library(built):
    names = set(zipfile.ZipFile(next(built.glob("*.whl"))).namelist())
    about = f"flaxinit-{PROJECT['version']}.dist-info/"
    assert {name for name in names if not name.startswith(about)} == library()
    assert about + "licenses/LICENSE" in names
    assert {"flaxinit/py.typed", "flaxinit/__init__.pyi"} <= names


def test_the_sdist_is_the_library_without_tests(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = archive.getnames()
    inside = {name.partition("/")[2] for name in names}
    assert library() | {"pyproject.toml", "README.md", "LICENSE"} <= inside
    assert not {name for name in inside if name.startswith("tests")}


def test_the_readme_works_with_the_wheel(python, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    program = tmp_path / "readme.py"
    program.write_text("\n".join([*blocks, "print(flaxinit.__file__, flaxinit.__version__)"]))
    file, version = run([python, "-I", program], tmp_path).split()[-2:]
    assert Path(file).is_relative_to(python.parents[1])
    assert version == PROJECT["version"]


def test_the_command_is_installed(python, tmp_path):
    assert f"{flaxinit.gain('gelu'):.4f}" in run(
        [python.parent / "flaxinit", "derive", "gelu"], tmp_path
    )


def test_types_come_with_the_wheel(python, tmp_path):
    """Names are lazy, and the stub that lists them is read from the wheel."""
    listed = run([python, "-I", "-c", "import flaxinit; print(*flaxinit.__all__)"], tmp_path)
    assert listed.split() == flaxinit.__all__
