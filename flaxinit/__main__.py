"""Run the command `flaxinit` as ``python -m flaxinit``."""

import sys

from flaxinit.cli import main

if __name__ == "__main__":
    sys.exit(main())
