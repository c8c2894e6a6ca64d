"""What users name on the command line."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def blamed(text: str, hint: Callable[[Exception, str], str]) -> Iterator[None]:
    """Turn whatever a user's code raises into a ValueError of one line.

    Args:
        text: names the code.
        hint: what to do, from the error and its message; empty if that is not known.
    """
    try:
        yield
    except Exception as error:
        message = " ".join(str(error).strip().split("\n\n")[0].split())
        line = f"{text} raises {type(error).__name__}: {message.rstrip('.')}."
        raise ValueError(f"{line} {hint(error, message)}".rstrip()) from None
