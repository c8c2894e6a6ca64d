"""Find where an init function stored a value of its trace, apart from what it returns.

JAX searches from the value to all that refers to it. In a large program that search does not end,
and it finds JAX's own caches. This search starts from what the user holds.
"""

import functools
import gc
import sys
import types
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from jax.core import Trace, Tracer

# The most objects that a search visits: a stored value is near to what the user holds.
_OBJECTS = 100_000
# Objects of these packages hold no variables of the user.
_LIBRARIES = {"jax", "jaxlib", "flax", "numpy", *sys.stdlib_module_names}
_PLAIN = (str, bytes, int, float, complex, type(None), types.ModuleType, types.CodeType)


def stored(roots: Mapping[str, Any], traces: set[Trace], returned: set[int]) -> str | None:
    """Return the variable nearest to `roots` that holds a value of a trace; None if none does.

    Args:
        roots: where the search starts, by name.
        traces: whose values are searched for; values of traces inside of these count too.
        returned: the ids of the values that the init function returns.
    """
    waiting, seen = deque(roots.items()), set(returned)
    while waiting and len(seen) < _OBJECTS:
        name, x = waiting.popleft()
        if id(x) in seen or isinstance(x, _PLAIN):
            continue
        seen.add(id(x))
        if not isinstance(x, Tracer):
            waiting.extend(_inside(name, x))
        elif _is_of(x, traces):
            return name
    return None


def _is_of(x: Tracer | Trace, traces: set[Trace]) -> bool:
    around = {each for each in gc.get_referents(x) if isinstance(each, Trace)}
    return bool(traces & around) or any(_is_of(each, traces) for each in around)


def _inside(name: str, x: Any) -> Iterator[tuple[str, Any]]:
    """Yield what an object holds, each under the name that the user knows."""
    match x:
        case dict() | types.MappingProxyType():
            yield from ((f"{name}[{key!r}]", each) for key, each in x.items())
        case list() | tuple():
            yield from ((f"{name}[{i}]", each) for i, each in enumerate(x))
        case types.FunctionType():
            yield from _of_function(name, x)
        case types.MethodType():
            yield from (("self", x.__self__), (name, x.__func__))
        case functools.partial():
            yield from ((name, each) for each in (x.func, x.args, x.keywords))
        case type():
            if not _is_library(x):
                yield from ((f"{name}.{key}", each) for key, each in vars(x).items())
                yield from ((each.__name__, each) for each in x.__bases__)
        case _:
            slots = [slot for kind in type(x).__mro__ for slot in vars(kind).get("__slots__", ())]
            fields = vars(x) if hasattr(x, "__dict__") else {}
            fields = fields | {slot: getattr(x, slot) for slot in slots if hasattr(x, slot)}
            yield from ((f"{name}.{key}", each) for key, each in fields.items())
            yield type(x).__name__, type(x)
            if not fields and not _is_library(type(x), "jax", "jaxlib"):
                yield from ((name, each) for each in gc.get_referents(x))


def _of_function(name: str, function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    for variable, cell in cells:
        try:
            yield variable, cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    yield from ((name, each) for each in (function.__defaults__, function.__kwdefaults__))
    yield from vars(function).items()
    if not _is_library(function):
        names = _names(function.__code__)
        known = {key: function.__globals__[key] for key in names & function.__globals__.keys()}
        yield from known.items()
        for module, inside in known.items():
            if isinstance(inside, types.ModuleType) and not _is_library(inside):
                found = names & vars(inside).keys()
                yield from ((f"{module}.{key}", vars(inside)[key]) for key in found)


def _names(code: types.CodeType) -> set[str]:
    """Return the names that a function and its inner functions read."""
    inner = [_names(each) for each in code.co_consts if isinstance(each, types.CodeType)]
    return set(code.co_names).union(*inner)


def _is_library(x: Any, *names: str) -> bool:
    module = x.__name__ if isinstance(x, types.ModuleType) else getattr(x, "__module__", None)
    return str(module).split(".")[0] in (names or _LIBRARIES)
