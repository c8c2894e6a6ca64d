"""Run a traced program on SymPy expressions, and refuse it if it is not elementwise.

`entries` explains the arrays of expressions on which it runs.
"""

import inspect
import itertools
from collections.abc import Callable, Iterable, Sequence

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from sympy import Expr, nan, true

from flaxinit.theory.reading.elementwise import STRUCTURE, mixes, pick
from flaxinit.theory.reading.entries import (
    LENGTH,
    are_counts,
    are_numbers,
    compute,
    compute_counts,
    constant,
    draws_random,
    each,
    not_elementwise,
    shape_of,
    written,
)
from flaxinit.theory.reading.rules import CALLS, RULES
from flaxinit.versions.jaxpr import called, closed, evaluate, run_while, scan_operands, unroll_scan

MAX_STEPS = 64  # of a loop


def interpret(program: ClosedJaxpr, arguments: Iterable[Expr]) -> Expr:
    """Return the expression that a program traced on vectors of `LENGTH` numbers computes.

    Args:
        program: with one output, a vector or a scalar.
        arguments: a symbol for each input.

    Returns:
        The expression.

    Raises:
        ValueError: if the program is not elementwise, or a primitive has no rule.
    """
    inputs = [
        np.full(shape_of(var), symbol, object)
        for var, symbol in zip(program.jaxpr.invars, arguments, strict=True)
    ]
    (result,) = _run(program, inputs)
    expr = written(result.item())
    if expr.has(nan):
        raise ValueError(
            "The function returns the constant nan, but an activation must be real. Return a "
            "number in every branch."
        )
    return expr


def _run(program: ClosedJaxpr, operands: Sequence[np.ndarray]) -> list[np.ndarray]:
    return evaluate(program, operands, _apply, lambda atom, value: constant(value))


def _apply(equation, operands: list[np.ndarray]) -> list[np.ndarray]:
    name, params = equation.primitive.name, equation.params
    body = called(equation)
    shape = shape_of(equation.outvars[0]) if equation.outvars else ()
    if (function := _called_name(body)) in CALLS:
        rules = CALLS[function]
        return [each(rule, operands, shape) for rule in rules]
    if name.startswith("random_") or name in ("threefry2x32", "rng_bit_generator"):
        raise draws_random(f"primitive {name!r}")
    if name in _LOOPS:
        return _LOOPS[name](equation, operands)
    if name in STRUCTURE:
        return STRUCTURE[name](equation, operands)
    whole = all(jnp.issubdtype(var.aval.dtype, np.integer) for var in equation.outvars)
    if (whole or name not in RULES) and body is None and are_numbers(operands):
        return compute(equation, operands)
    if whole and body is None and are_counts(operands):
        return compute_counts(equation, operands)
    if name in RULES:
        return [each(_rule(name, params), operands, shape)]
    if body is not None:
        return _run(body, operands)
    if name in _MIXING:
        raise not_elementwise(
            f"this one mixes its inputs, or numbers made of them (primitive {name!r})"
        )
    if name in _JUMPING:
        raise ValueError(
            f"The JAX primitive {name!r} has infinitely many jumps, but the engine cuts a function "
            "into finitely many pieces. Write the steps that matter as nested jnp.where."
        )
    raise ValueError(
        f"There is no rule for the JAX primitive {name!r}, so the function cannot be read as an "
        "elementwise formula. Write it with other functions, and a choice as nested jnp.where. If "
        "exp, log, tanh, erf and similar functions can express the primitive, teach the tracer "
        f"with flaxinit.theory.register_rule({name!r}, rule)."
    )


_JUMPING = ("ceil", "floor", "rem", "round")
_MIXING = (
    *("conv_general_dilated", "cumlogsumexp", "fft", "reduce_window", "scatter", "scatter_add"),
    *("sort", "top_k"),
)


def _called_name(body: ClosedJaxpr | None) -> str | None:
    """Return the Python name of the function that a program was traced from."""
    info = None if body is None else body.jaxpr.debug_info
    return info.func_name if info else None


def _keywords(rule: Callable) -> frozenset[str]:
    """Return the names of the parameters that a rule takes."""
    try:
        return frozenset(inspect.signature(rule).parameters)
    except (TypeError, ValueError):  # a SymPy class without a signature
        return frozenset()


def _rule(name: str, params: dict) -> Callable:
    """Return the rule for a primitive, bound to the parameters that it takes by name."""
    rule = RULES[name]
    accepted = {key: params[key] for key in params if key in _keywords(rule)}

    def applied(*operands):
        try:
            return rule(*operands, **accepted)
        except TypeError as error:
            raise ValueError(
                f"The rule for the JAX primitive {name!r} cannot be applied to "
                f"{', '.join(map(str, operands))}: {error}."
            ) from error

    return applied


def _branch(equation, operands: list[np.ndarray]) -> list[np.ndarray]:
    which, *arguments = operands
    cases = [_run(closed(branch), arguments) for branch in equation.params["branches"]]
    return [pick(var, which, *outs) for var, *outs in zip(equation.outvars, *cases, strict=True)]


def _scan(equation, operands: list[np.ndarray]) -> list[np.ndarray]:
    params = equation.params
    if params["length"] == LENGTH:  # a loop over the inputs: one step stands for all
        constants, carry, rows = scan_operands(equation, operands)
        if carry:
            raise mixes(equation)
        results = _run(closed(params["jaxpr"]), [*constants, *(row[0] for row in rows)])
        return [result[np.newaxis] for result in results]
    _check_steps(params["length"])
    return unroll_scan(equation, operands, _run, lambda rows, step: rows[step], np.stack)


def _while(equation, operands: list[np.ndarray]) -> list[np.ndarray]:
    steps = itertools.count()

    def holds(condition: ClosedJaxpr, operands: Sequence[np.ndarray]) -> bool:
        (goes_on,) = _run(condition, operands)
        if not are_numbers([goes_on]):
            raise ValueError(
                "This function loops until a condition on its input holds, which is not read. "
                "Write a loop of fixed length, or the choices as nested jnp.where."
            )
        if goes_on.item() != true:
            return False
        _check_steps(next(steps) + 1)
        return True

    return run_while(equation, operands, holds, _run)


def _check_steps(steps: int) -> None:
    if steps > MAX_STEPS:
        raise ValueError(
            f"This function loops more than {MAX_STEPS} times for each of its inputs, which is "
            "too long for a formula. Use fewer steps."
        )


_LOOPS = {"cond": _branch, "scan": _scan, "while": _while}
