"""Results as JSON Lines: one line per finished unit, so that a killed run resumes."""

import hashlib
import json
import platform
import subprocess
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import jax

ROOT = Path(__file__).resolve().parent.parent
SIZES = ("smoke", "laptop", "pod")
DTYPES = ("float32", "bfloat16")


def environment() -> dict:
    """What a result depends on besides its settings."""
    device = jax.devices()[0]
    packages = ("flaxinit", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn", "mnist1d")
    return {
        "backend": jax.default_backend(),
        "device": device.device_kind,
        "devices": jax.device_count(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "commit": _commit(),
        "source": _source(),
    }


def _commit() -> str:
    """The git commit, with `-dirty` for uncommitted changes to tracked files."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _source() -> str:
    """Digest of the code that makes the numbers: a commit does not tell uncommitted changes."""
    files = sorted([*ROOT.glob("flaxinit/**/*.py"), *ROOT.glob("benchmarks/**/*.py")])
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(ROOT).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:12]


class Journal:
    """The results of one experiment at one size, in its own dtype or in another.

    Units are appended to `NAME.partial.jsonl` as they finish; the complete file replaces
    `NAME.jsonl` at once. Only a partial file is resumed, and only its units made by the same
    code, versions and devices; the others are kept beside it, as `NAME.stale.jsonl`.
    """

    def __init__(self, results: Path, size: str, name: str, dtype: str | None = None):
        folder = f"{size}-{dtype}" if dtype else size
        self.path = results / folder / f"{name}.jsonl"
        self.partial = self.path.with_suffix(".partial.jsonl")
        self.stale = self.path.with_suffix(".stale.jsonl")

    def resume(self, here: dict) -> tuple[list[dict], list[str]]:
        """The finished units that still hold, and what to tell about the others."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.partial.open("ab"):
            pass  # fails now, not after the first unit, where results cannot be written
        records, torn = read(self.partial)
        # The digest of the source tells what a commit only names.
        valid = [
            record
            for record in records
            if record["environment"] == {**here, "commit": record["environment"]["commit"]}
        ]
        notes = []
        if torn:
            notes.append(f"{self.partial.name}: dropped an incomplete last line; it is run again")
        if stale := [record for record in records if record not in valid]:
            with self.stale.open("a", encoding="utf-8") as file:
                file.writelines(map(_line, stale))
            notes.append(
                f"{self.partial.name}: {len(stale)} finished unit(s), made by other code, versions "
                f"or devices, are run again and kept in {self.stale.name}"
            )
        if valid:
            notes.append(f"{self.partial.name}: resumed after {len(valid)} finished unit(s)")
        self._write(valid)
        return valid, notes

    def append(self, record: dict) -> None:
        with self.partial.open("a", encoding="utf-8") as file:
            file.write(_line(record))

    def complete(self, records: list[dict]) -> None:
        """Publish the records, in the experiment's order."""
        self._write(records)
        self.partial.replace(self.path)

    def _write(self, records: list[dict]) -> None:
        fresh = self.partial.with_suffix(".tmp")
        fresh.write_text("".join(map(_line, records)), encoding="utf-8")
        fresh.replace(self.partial)


def key(unit) -> str:
    """A unit's settings, as one string: from the dataclass, or from its record."""
    settings = unit if isinstance(unit, dict) else asdict(unit)
    return json.dumps(settings, sort_keys=True)


def _line(record: dict) -> str:
    return json.dumps(record, allow_nan=False, ensure_ascii=False) + "\n"


def read(path: Path) -> tuple[list[dict], bool]:
    """Records of a results file, and whether its last line was cut short.

    Raises:
        ValueError: a line before the last is not a record: the file was damaged, not cut short.
    """
    *lines, rest = path.read_text(encoding="utf-8", errors="replace").split("\n")
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {number} is not JSON ({error}): repair the line, or delete the "
                "file to run everything again"
            ) from None
    return records, bool(rest)
