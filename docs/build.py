"""Build the site, check it, and print its address: `make docs`."""

import subprocess
import sys
from pathlib import Path

import check

import flaxinit
from flaxinit import recipes

DOCS = Path(__file__).parent
SITE = DOCS / "_build" / "html"
# Quiet; a warning is an error; all pages, for a page shows the titles of others.
OPTIONS = ["-q", "-W", "--keep-going", "-E", "-a", "-j", "2", "-b", "html"]


def main() -> None:
    """Build, and end with what is wrong if anything is."""
    command = [sys.executable, "-m", "sphinx", *OPTIONS, "-d", SITE.parent / "read", DOCS, SITE]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        sys.exit(made.stdout + made.stderr)
    names = [*flaxinit.__all__, *(f"recipes.{name}" for name in recipes.__all__)]
    if wrong := check.problems(SITE, names):
        sys.exit("\n".join(wrong))
    print((SITE / "index.html").as_uri())


if __name__ == "__main__":
    main()
