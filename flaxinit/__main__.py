"""``python -m flaxinit`` is the command `flaxinit`."""

import sys

from flaxinit.cli import main

if __name__ == "__main__":
    sys.exit(main())
