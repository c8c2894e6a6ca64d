"""Build the site, check it, and print its address: `make docs`."""

import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent
OUTPUT = DOCS / "_build" / "html"


def main() -> None:
    options = ["-q", "-W", "--keep-going", "-j", "2", "-b", "html"]
    command = [sys.executable, "-m", "sphinx", *options, DOCS, OUTPUT]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        sys.exit(made.stdout + made.stderr)
    print((OUTPUT / "index.html").as_uri())


if __name__ == "__main__":
    main()
