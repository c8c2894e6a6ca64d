"""Tell SymPy's defects from those of flaxinit, by where an exception was raised."""

import contextlib
import traceback
from collections.abc import Iterator

_FOREIGN = ("sympy", "mpmath")
_PRINTED = "<lambdifygenerated"  # the file name of code that SymPy printed
_ANYWHERE = (RecursionError, NotImplementedError, OverflowError)


class SymPyFails(ValueError):
    """SymPy, or mpmath, raised an exception that says nothing about the activation."""


@contextlib.contextmanager
def sympy_may_fail() -> Iterator[None]:
    """Turn an exception of SymPy into `SymPyFails`; one of flaxinit passes, because it is a defect.

    SymPy's is one that SymPy's or mpmath's own code raised, or code that SymPy printed. A recursion
    that is too deep, a part that is not implemented and an overflow are SymPy's wherever they end.

    >>> import sympy
    >>> with sympy_may_fail():
    ...     sympy.I < 1
    Traceback (most recent call last):
    ...
    flaxinit.theory.functions.defects.SymPyFails: SymPy fails with TypeError.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, _ANYWHERE) or _is_foreign(error):
            raise SymPyFails(f"SymPy fails with {type(error).__name__}.") from error
        raise


def _is_foreign(error: Exception) -> bool:
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    package = frame.f_globals.get("__name__", "").partition(".")[0]
    return package in _FOREIGN or frame.f_code.co_filename.startswith(_PRINTED)
