"""Reads a JAX function into a SymPy expression: the only file of the theory that knows JAX."""

import contextlib
import functools
import inspect
import traceback
import types
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxprs_in_params
from sympy import Expr, Symbol, sympify
from sympy.logic.boolalg import Boolean

from flaxinit.theory.constants import read_constant
from flaxinit.theory.formula import RESERVED
from flaxinit.theory.rules import CALLS, RULES
from flaxinit.theory.symbols import z

# The length of the vector a function is traced on. A prime that nobody writes by hand, so that
# a function which mixes, splits or pairs up its inputs betrays itself by its shapes.
_LENGTH = 13


_RANDOM = (
    "an activation is a function of its input alone, but this one draws random numbers ({}); "
    "pass its deterministic form"
)


def _not_elementwise(what: str) -> ValueError:
    return ValueError(
        f"an activation acts on each number by itself (elementwise), but {what}; "
        "derive the elementwise part, and treat the rest as a layer of its own"
    )


def read_function(function: Callable) -> tuple[Expr, float]:
    """The SymPy expression, in the symbol z, that a JAX function computes.

    The function is traced in float64, so that its constants can be read exactly. SymPy
    symbols that it uses (a parameter left open, by closure, default or `functools.partial`)
    stay symbols.

    Args:
        function: an elementwise function of one array.

    Returns:
        The expression, and the relative spacing of the coarsest float format it computes in.

    Raises:
        ValueError: if the function is not elementwise, not real, or uses a primitive that
            has no rule.

    >>> import jax
    >>> read_function(jax.nn.silu)[0]
    z/(1 + exp(-z))
    """
    return _read(*_open_parameters(function))


def read_gate(function: Callable, gate: Symbol) -> tuple[Expr, float]:
    """A function of two arrays: the first is read as z, the second as the given symbol."""
    return _read(function, (gate,), vectors=2)


def _read(function: Callable, symbols: tuple[Symbol, ...], vectors: int = 1) -> tuple[Expr, float]:
    with jax.enable_x64(True):
        vector = jax.ShapeDtypeStruct((_LENGTH,), np.float64)
        scalar = jax.ShapeDtypeStruct((), np.float64)
        open_ = [vector if n < vectors else scalar for n, _ in enumerate(symbols, start=1)]
        try:
            closed, out = jax.make_jaxpr(function, return_shape=True)(vector, *open_)
        except Exception as error:
            # A function of one number (lax.cond, lax.switch) is elementwise once mapped.
            mapped = jax.vmap(function, in_axes=(0, *[None] * len(symbols)))
            try:
                closed, out = jax.make_jaxpr(mapped, return_shape=True)(vector, *open_)
            except Exception:
                raise ValueError(_trace_failure(function, error)) from error
    if not isinstance(out, jax.ShapeDtypeStruct):
        raise _not_elementwise(f"this one returns {type(out).__name__}, not one array")
    if out.shape not in ((_LENGTH,), ()):
        raise _not_elementwise(f"this one maps the shape {(_LENGTH,)} to {out.shape}")
    if not jnp.issubdtype(out.dtype, jnp.floating):
        raise ValueError(f"an activation is real-valued, but this one returns {out.dtype}")
    (expr,) = _interpret(closed.jaxpr, closed.consts, (z, *symbols))
    return sympify(expr), max(_spacings(closed.jaxpr))


def _spacings(jaxpr: Jaxpr):
    """The relative spacing of every float format that a computation passes through."""
    yield float(jnp.finfo(jnp.float64).eps)
    for equation in jaxpr.eqns:
        for atom in (*equation.invars, *equation.outvars):
            if jnp.issubdtype(atom.aval.dtype, jnp.floating):
                yield float(jnp.finfo(atom.aval.dtype).eps)
        for inner in jaxprs_in_params(equation.params):
            yield from _spacings(inner)


def _trace_failure(function: Callable, error: Exception) -> str:
    name = getattr(function, "__name__", repr(function))
    if "truth value" in str(error) or isinstance(error, jax.errors.TracerBoolConversionError):
        cause = "it branches on its input with a Python `if`; use jnp.where instead"
    elif "sympy" in str(error) or "SymPy" in str(error) or _reaches_sympy(error):
        cause = (
            "a SymPy parameter does not reach the trace; it is found in the function's own "
            "closure, globals, defaults and functools.partial arguments, as a bare symbol"
        )
    elif isinstance(error, jax.errors.TracerArrayConversionError):
        cause = "it uses a NumPy function; use its counterpart in jax.numpy"
    else:
        cause = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return f"{name} cannot be traced on a vector of float64: {cause}"


def _reaches_sympy(error: BaseException) -> bool:
    """Whether the innermost frame of the failure held a SymPy expression."""
    frames = list(traceback.walk_tb(error.__traceback__))
    held = [value for frame, _ in frames[-3:] for value in frame.f_locals.values()]
    return any(isinstance(value, Expr) for value in held)


def read_derivative(function: Callable) -> tuple[Expr, float]:
    """The derivative as JAX propagates it, custom rules included."""
    opened, symbols = _open_parameters(function)

    def derivative(x, *values):
        return jax.vjp(lambda u: opened(u, *values), x)[1](jnp.ones_like(x))[0]

    return _read(derivative, symbols)


def evaluate(
    function: Callable, points: np.ndarray, parameters: dict[Symbol, float]
) -> tuple[np.ndarray, np.ndarray]:
    """The function's own values and derivatives at the points, in float64 on the CPU."""
    function, symbols = _open_parameters(function)
    given = [np.float64(parameters[symbol]) for symbol in symbols]

    def both(x):
        value, pullback = jax.vjp(lambda u: jnp.asarray(function(u, *given)), x)
        return value, pullback(jnp.ones_like(value))[0]

    with _concretely():
        try:
            value, slope = jax.jit(both)(points)
        except Exception:  # a function of one number, as in `_read`
            value, slope = jax.jit(jax.vmap(both))(points)
    value, slope = (
        np.broadcast_to(np.asarray(a, np.float64), points.shape) for a in (value, slope)
    )
    return value, slope


@contextlib.contextmanager
def _concretely():
    """Computes in float64 on the CPU at once, even while some model is being traced."""
    cpu = jax.local_devices(backend="cpu")[0]
    with jax.ensure_compile_time_eval(), jax.enable_x64(True), jax.default_device(cpu):
        yield


def evaluate_gate(function: Callable, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The values of a function of two arrays, in float64 on the CPU."""
    with _concretely():
        return np.asarray(jax.jit(function)(u, v), np.float64)


def _interpret(jaxpr: Jaxpr, consts, arguments) -> list:
    values = dict(zip(jaxpr.invars, arguments, strict=True))
    values |= {var: _read_array(const) for var, const in zip(jaxpr.constvars, consts, strict=True)}

    def read(atom):
        return _read_array(atom.val) if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        results = _apply(equation, operands)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _read_array(value):
    if jnp.issubdtype(value.dtype if hasattr(value, "dtype") else type(value), jax.dtypes.prng_key):
        raise ValueError(_RANDOM.format("a key"))
    array = np.asarray(value)
    if np.iscomplexobj(array):
        raise ValueError("an activation has to be real, but this one uses a complex constant")
    if array.dtype == bool and array.size == 1:
        return bool(array.item())
    if array.size == 0 or not np.all(array == array.flat[0]):
        raise _not_elementwise(f"this one uses different constants, an array {array.shape}")
    return read_constant(array.flat[0])


def _apply(equation, operands) -> list:
    name = equation.primitive.name
    params = equation.params
    body = params.get("call_jaxpr", params.get("jaxpr"))
    if _called_name(body) in CALLS:
        return [CALLS[_called_name(body)](*operands)]
    if name in _MIXING:
        raise _not_elementwise(f"this one mixes its inputs or loops (primitive {name!r})")
    if name not in RULES and isinstance(body, ClosedJaxpr):
        return _interpret(body.jaxpr, body.consts, operands)
    if name not in RULES and isinstance(body, Jaxpr):
        return _interpret(body, (), operands)
    if name == "broadcast_in_dim":
        return [_broadcast(equation, operands[0])]
    if name.startswith("random_") or name in ("threefry2x32", "rng_bit_generator"):
        raise ValueError(_RANDOM.format(f"primitive {name!r}"))
    if name not in RULES:
        raise ValueError(
            f"no rule for the JAX primitive {name!r}, so the function cannot be read as an "
            "elementwise formula; write a choice as nested jnp.where, or, if the function is "
            f"elementwise, teach the tracer with flaxinit.theory.register_rule({name!r}, rule)"
        )
    rule = RULES[name]
    accepted = _keywords(rule)
    return [rule(*operands, **{key: params[key] for key in params if key in accepted})]


# Primitives that are known to look at several inputs at once, so that no rule can mend it.
_MIXING = frozenset(
    """
    argmax argmin concatenate cond conv_general_dilated cumlogsumexp cummax cummin cumprod cumsum
    dot_general dynamic_slice dynamic_update_slice fft gather iota pad reduce_and reduce_max
    reduce_min reduce_or reduce_prod reduce_sum reduce_window rev scan scatter slice sort split
    stack top_k while
    """.split()  # noqa: SIM905 (a list of thirty quoted words reads worse)
)


def _called_name(body) -> str | None:
    """The Python name of the function that an inner jaxpr was traced from."""
    jaxpr = getattr(body, "jaxpr", body)
    info = getattr(jaxpr, "debug_info", None)
    return info.func_name if info else None


def _keywords(rule: Callable) -> frozenset[str]:
    """The equation's parameters that a rule asks for by name."""
    try:
        return frozenset(inspect.signature(rule).parameters)
    except (TypeError, ValueError):  # a SymPy class without a signature
        return frozenset()


def _broadcast(equation, operand):
    varies = isinstance(operand, Expr | Boolean) and bool(operand.free_symbols)
    source, target = equation.invars[0].aval.shape, equation.params["shape"]
    if varies and source and np.prod(source) != np.prod(target):
        raise _not_elementwise(f"this one broadcasts its input from {source} to {target}")
    return operand


def _open_parameters(function: Callable) -> tuple[Callable, tuple[Symbol, ...]]:
    """Turns the SymPy symbols that a function refers to into further arguments.

    JAX cannot trace a SymPy symbol, so it is given a tracer in its place: the function is
    rebuilt around the same code with new cells, globals, defaults or partial arguments.
    """
    found = sorted(_symbols_of(function), key=lambda symbol: symbol.name)
    for symbol in found:
        if symbol.name in RESERVED:
            raise ValueError(
                f"the parameter {symbol} has a name that is taken ({RESERVED[symbol.name]}); "
                "name it otherwise"
            )
        if not symbol.is_real:
            raise ValueError(
                f"the parameter {symbol} has to be real: Symbol({symbol.name!r}, real=True), or "
                "positive=True where its sign decides a branch"
            )
    if not found:
        return function, ()

    def opened(x, *values):
        return _substitute(function, dict(zip(found, values, strict=True)))(x)

    return opened, tuple(found)


def _symbols_of(function) -> set[Symbol]:
    if isinstance(function, functools.partial):
        parts = (*function.args, *function.keywords.values())
        return _symbols_of(function.func) | {p for p in parts if isinstance(p, Symbol)}
    if not isinstance(function, types.FunctionType):
        return set()
    held = [function.__globals__.get(name) for name in function.__code__.co_names]
    held += list(function.__defaults__ or ()) + list((function.__kwdefaults__ or {}).values())
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # an empty cell
            held.append(cell.cell_contents)
    return {value for value in held if isinstance(value, Symbol)}


def _substitute(function, values: dict):
    def swap(value):
        return values.get(value, value) if isinstance(value, Symbol) else value

    if isinstance(function, functools.partial):
        return functools.partial(
            _substitute(function.func, values),
            *map(swap, function.args),
            **{key: swap(value) for key, value in function.keywords.items()},
        )
    if not isinstance(function, types.FunctionType):
        return function
    names = function.__code__.co_names
    globals_ = function.__globals__ | {
        name: swap(function.__globals__[name]) for name in names if name in function.__globals__
    }
    cells = tuple(types.CellType(swap(c.cell_contents)) for c in function.__closure__ or ())
    defaults = tuple(map(swap, function.__defaults__)) if function.__defaults__ else None
    rebuilt = types.FunctionType(
        function.__code__, globals_, function.__name__, defaults, cells or None
    )
    if function.__kwdefaults__:
        rebuilt.__kwdefaults__ = {k: swap(v) for k, v in function.__kwdefaults__.items()}
    return rebuilt
