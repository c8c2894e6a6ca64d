"""Runs a traced program on SymPy expressions, and refuses one that is not elementwise."""

import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Sequence

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from sympy import Expr, nan, preorder_traversal, true

from flaxinit.theory.choice import are_choices
from flaxinit.theory.entries import (
    LENGTH,
    are_numbers,
    compute,
    constant,
    draws_random,
    each,
    not_elementwise,
    shape_of,
    written,
)
from flaxinit.theory.rules import CALLS, RULES
from flaxinit.theory.structure import STRUCTURE, mixes, pick

MAX_STEPS = 64  # of a loop
MAX_NODES = 20_000  # of an expression


def interpret(program: ClosedJaxpr, arguments: Iterable[Expr]) -> Expr:
    """The expression that a program traced on vectors of `LENGTH` numbers computes.

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
    (result,) = _run(program.jaxpr, program.consts, inputs)
    expr = written(result.item())
    if expr.has(nan):
        raise ValueError("the function returns the constant nan; an activation has to be real")
    return expr


def _run(jaxpr: Jaxpr, consts: Sequence, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
    values = dict(zip(jaxpr.invars, arguments, strict=True))
    values |= {var: constant(const) for var, const in zip(jaxpr.constvars, consts, strict=True)}

    def read(atom) -> np.ndarray:
        return constant(atom.val) if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        results = _apply(equation, [read(atom) for atom in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _run_closed(body: ClosedJaxpr | Jaxpr, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
    if isinstance(body, ClosedJaxpr):
        return _run(body.jaxpr, body.consts, arguments)
    return _run(body, (), arguments)


def _apply(equation, operands: list[np.ndarray]) -> list[np.ndarray]:
    name, params = equation.primitive.name, equation.params
    body = params.get("call_jaxpr", params.get("jaxpr"))
    shape = shape_of(equation.outvars[0]) if equation.outvars else ()
    if (called := _called_name(body)) in CALLS:
        return [each(CALLS[called], operands, shape)]
    if name.startswith("random_") or name in ("threefry2x32", "rng_bit_generator"):
        raise draws_random(f"primitive {name!r}")
    if name in _LOOPS:
        return _LOOPS[name](equation, operands)
    if name in STRUCTURE:
        return STRUCTURE[name](equation, operands)
    whole = all(jnp.issubdtype(var.aval.dtype, np.integer) for var in equation.outvars)
    if (whole or name not in RULES) and body is None and are_numbers(operands):
        return compute(equation, operands)
    if whole and body is None and are_choices([e for operand in operands for e in operand.flat]):
        return [each(_whole_rule(equation), operands, shape)]
    if name in RULES:
        return [each(_rule(name, params), operands, shape)]
    if isinstance(body, ClosedJaxpr | Jaxpr):
        return _run_closed(body, operands)
    if name in _MIXING:
        raise not_elementwise(
            f"this one mixes its inputs, or numbers made of them (primitive {name!r})"
        )
    if name in _JUMPING:
        raise ValueError(
            f"the JAX primitive {name!r} has infinitely many jumps, and the engine cuts a function "
            "into finitely many pieces; write the steps that matter as nested jnp.where"
        )
    raise ValueError(
        f"no rule for the JAX primitive {name!r}, so the function cannot be read as an elementwise "
        "formula. Write it with other functions, a choice as nested jnp.where; or, if it is one "
        f"that exp, log, tanh, erf and the like express, teach the tracer with "
        f"flaxinit.theory.register_rule({name!r}, rule)"
    )


_JUMPING = ("ceil", "floor", "rem", "round")
_MIXING = (
    *("conv_general_dilated", "cumlogsumexp", "fft", "reduce_window", "scatter", "scatter_add"),
    *("sort", "top_k"),
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


def _rule(name: str, params: dict) -> Callable:
    """The rule for a primitive, given those of the equation's parameters that it asks for."""
    rule = RULES[name]
    accepted = {key: params[key] for key in params if key in _keywords(rule)}

    def applied(*operands):
        try:
            return rule(*operands, **accepted)
        except TypeError as error:
            raise ValueError(
                f"the rule for the JAX primitive {name!r} cannot be applied to "
                f"{', '.join(map(str, operands))}: {error}"
            ) from error

    return applied


def _whole_rule(equation) -> Callable:
    """The rule for whole numbers, whose quotients and shifts JAX rounds: its own results."""
    shapes = [shape_of(atom) for atom in equation.invars]

    @functools.cache
    def applied(*numbers):
        operands = [np.full(s, n, object) for s, n in zip(shapes, numbers, strict=True)]
        return compute(equation, operands)[0].flat[0]

    return applied


def _branch(equation, operands: list[np.ndarray]) -> list[np.ndarray]:
    which, *arguments = operands
    cases = [_run_closed(branch, arguments) for branch in equation.params["branches"]]
    return [pick(var, which, *outs) for var, *outs in zip(equation.outvars, *cases, strict=True)]


def _scan(equation, operands: list[np.ndarray]) -> list[np.ndarray]:
    params = equation.params
    consts, carried = params["num_consts"], params["num_consts"] + params["num_carry"]
    fixed, carry, rows = operands[:consts], operands[consts:carried], operands[carried:]
    steps = range(params["length"])
    if len(steps) == LENGTH:  # over the inputs themselves
        if carry:
            raise mixes(equation)
        steps = range(1)
    _check_steps(len(steps))
    collected = []
    for step in reversed(steps) if params["reverse"] else steps:
        results = _run_closed(params["jaxpr"], [*fixed, *carry, *[row[step] for row in rows]])
        carry = results[: params["num_carry"]]
        _check_nodes(carry)
        collected.append(results[params["num_carry"] :])
    if params["reverse"]:
        collected.reverse()
    return [*carry, *[np.stack(column) for column in zip(*collected, strict=True)]]


def _while(equation, operands: list[np.ndarray]) -> list[np.ndarray]:
    params = equation.params
    start, end = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    tested, fixed, carry = operands[:start], operands[start:end], operands[end:]
    for step in itertools.count():
        (goes_on,) = _run_closed(params["cond_jaxpr"], [*tested, *carry])
        if not are_numbers([goes_on]):
            raise ValueError(
                "this function loops until a condition on its input holds, which is not read; "
                "write a loop of fixed length, or the choices as nested jnp.where"
            )
        if goes_on.item() != true:
            return carry
        _check_steps(step + 1)
        carry = _run_closed(params["body_jaxpr"], [*fixed, *carry])
        _check_nodes(carry)


def _check_steps(steps: int) -> None:
    if steps > MAX_STEPS:
        raise ValueError(
            f"this function loops more than {MAX_STEPS} times for each of its inputs, which is "
            "not read as a formula"
        )


def _check_nodes(values: Iterable[np.ndarray]) -> None:
    for value in values:
        for entry in value.flat:
            nodes = itertools.islice(preorder_traversal(entry), MAX_NODES)
            if sum(1 for _ in nodes) == MAX_NODES:
                raise ValueError(
                    f"written out, this function is a formula of more than {MAX_NODES} parts; "
                    "derive a simpler one"
                )


_LOOPS = {"cond": _branch, "scan": _scan, "while": _while}
