"""What users name on the command line."""

import importlib
import sys
from pathlib import Path
from typing import Any


def imported(text: str, example: str) -> Any:
    """Return what ``module:name`` names; `example` is for the error."""
    module, _, name = text.partition(":")
    if not module or not name:
        raise ValueError(f"{text!r} names no function. Write module:function, as in {example}.")
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.append(folder)  # last: a file there must not hide an installed module
    try:
        found = importlib.import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may raise anything, SystemExit too
        raise ImportError(
            f"{text!r}: the module {module!r} cannot be imported ({type(error).__name__}: "
            f"{error}). Run the command in the folder that holds it."
        ) from None
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except Exception:
            owner = getattr(found, "__name__", found)
            raise ValueError(f"{text!r}: {owner} has no {part!r}.") from None
    return found
