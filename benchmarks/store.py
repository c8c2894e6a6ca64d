"""Results as JSON Lines: one line per finished unit, so that a killed run can resume."""

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
    """Return what a result depends on besides its settings."""
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
    """Return the git commit, with `-dirty` for uncommitted changes to tracked files."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _source() -> str:
    """Return a digest of the code, because a commit does not identify uncommitted changes."""
    files = sorted([*ROOT.glob("flaxinit/**/*.py"), *ROOT.glob("benchmarks/**/*.py")])
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(ROOT).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:12]


class Journal:
    """The results of one experiment at one size, in its own dtype or in another.

    Each finished unit is appended to `NAME.partial.jsonl`. The complete file replaces `NAME.jsonl`
    in one step. Resuming a partial file keeps the units that the same code, versions and devices
    made, and moves the others to `NAME.stale.jsonl`. Extending keeps all that is finished, in
    either file, whatever code made it.
    """

    def __init__(self, results: Path, size: str, name: str, dtype: str | None = None):
        folder = f"{size}-{dtype}" if dtype else size
        self.path = results / folder / f"{name}.jsonl"
        self.partial = self.path.with_suffix(".partial.jsonl")
        self.stale = self.path.with_suffix(".stale.jsonl")

    def resume(self, here: dict, extend: bool = False) -> tuple[list[dict], list[str]]:
        """Return the finished units that are still valid, and notes on the others."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.partial.open("ab"):
            pass  # results that cannot be written fail now, not after the first unit
        records, torn = read(self.partial)
        if extend and self.path.exists():
            records = [*read(self.path)[0], *records]
        # The digest of the source replaces the commit, which may differ for the same source.
        valid = [
            record
            for record in records
            if extend
            or record["environment"] == {**here, "commit": record["environment"]["commit"]}
        ]
        notes = []
        if torn:
            notes.append(
                f"{self.partial.name}: dropped an incomplete last line. Its unit is run again."
            )
        if stale := [record for record in records if record not in valid]:
            with self.stale.open("a", encoding="utf-8") as file:
                file.writelines(map(_line, stale))
            notes.append(
                f"{self.partial.name}: {len(stale)} finished unit(s), made by other code, versions "
                f"or devices, are run again. The old results are kept in {self.stale.name}."
            )
        if valid:
            notes.append(f"{self.partial.name}: resumed after {len(valid)} finished unit(s).")
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
    """Return a unit's settings as one string, from the dataclass or from its record."""
    settings = unit if isinstance(unit, dict) else asdict(unit)
    return json.dumps(settings, sort_keys=True)


def _line(record: dict) -> str:
    return json.dumps(record, allow_nan=False, ensure_ascii=False) + "\n"


def read(path: Path) -> tuple[list[dict], bool]:
    """Read the records of a results file, and whether its last line was cut short.

    Raises:
        ValueError: a line before the last is not JSON, so the file was damaged, not cut short.
    """
    *lines, rest = path.read_text(encoding="utf-8", errors="replace").split("\n")
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {number} is not JSON ({error}). Repair the line, or delete the "
                "file to run everything again."
            ) from None
    return records, bool(rest)
