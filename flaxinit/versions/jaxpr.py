"""Programs: what an equation calls, how a loop divides its operands, and how a program is run.

A program is what ``jax.make_jaxpr`` returns. Whoever runs one says what each equation does, on
values of any kind: arrays, SymPy expressions, variables of a new program. JAX changes the layout
of its programs from version to version; only this file knows it.
"""

import contextlib
import math
from collections.abc import Callable, Container, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.core
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var
from jax.interpreters.partial_eval import dce_jaxpr
from jax.sharding import PartitionSpec

from flaxinit.versions.compat import enable_x64, jaxprs_in_params

# Equations that run one program once on their operands. ``shard_map`` runs it on each device, on
# that device's part of the operands.
_CALLS = {
    *("call", "checkpoint", "closed_call", "composite", "core_call", "custom_jvp_call"),
    *("custom_partitioning", "custom_vjp_call", "custom_vmap_call", "eval_jaxpr", "jit"),
    *("remat2", "shard_map"),
}
_BODIES = ("call_jaxpr", "jaxpr", "call")  # the parameter that holds the program
# Equations that move numbers and compute nothing.
MOVES = {"reshape", "transpose", "squeeze", "slice", "rev", "broadcast_in_dim"}
# Equations that return their operands, one by one.
IDENTITIES = {
    *("copy", "copy_p", "device_put", "layout_constraint", "mesh_cast", "optimization_barrier"),
    *("pcast", "pvary", "reduce_precision", "sharding_constraint"),
}
_EMPTY = jax.make_jaxpr(lambda: ())().jaxpr

Run = Callable[[ClosedJaxpr, list], list]  # a program and its operands -> its results


def closed(program: Jaxpr | ClosedJaxpr) -> ClosedJaxpr:
    """Return a program with the values of its constants; since JAX 0.11 every one has them."""
    return program if isinstance(program, ClosedJaxpr) else ClosedJaxpr(program, ())


def opened(program: ClosedJaxpr) -> tuple[Jaxpr, list[Any]]:
    """Return the program with its constants as first inputs, and their values."""
    jaxpr = program.jaxpr
    inputs = [*jaxpr.constvars, *jaxpr.invars]
    return jaxpr.replace(constvars=[], invars=inputs), list(program.consts)


def aval(atom: Var | Literal) -> Any:
    """Return the abstract value of an atom: its shape, dtype and all else that JAX traces."""
    return atom.aval  # an AbstractValue to type checkers; a ShapedArray here


def part(program: ClosedJaxpr, wanted: Container[int] | None = None) -> ClosedJaxpr:
    """Keep the equations that some results need, given by number; others are left out."""
    used = [wanted is None or n in wanted for n in range(len(program.jaxpr.outvars))]
    jaxpr, _ = dce_jaxpr(program.jaxpr, used, instantiate=True)
    kept = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    return ClosedJaxpr(jaxpr, [kept[var] for var in jaxpr.constvars])


def chained(first: ClosedJaxpr, then: ClosedJaxpr, count: int) -> ClosedJaxpr:
    """Return one program of two; all results of the first but so many are operands of the other.

    Args:
        first: runs before.
        then: its first operands are the last results of `first`.
        count: first results of `first` that are results of both, behind those of `then`.
    """
    one, other = first.jaxpr, then.jaxpr
    kept = one.outvars[count:]
    names = dict(zip(other.invars, kept, strict=False))

    def named(atoms):
        return [names.get(atom, atom) if isinstance(atom, Var) else atom for atom in atoms]

    jaxpr = one.replace(
        constvars=[*one.constvars, *other.constvars],
        invars=[*one.invars, *other.invars[len(kept) :]],
        eqns=[*one.eqns, *(each.replace(invars=named(each.invars)) for each in other.eqns)],
        outvars=[*named(other.outvars), *one.outvars[:count]],
        effects=one.effects | other.effects,
    )
    return ClosedJaxpr(jaxpr, [*first.consts, *then.consts])


def is_key(x: Any) -> bool:
    """Return whether an atom, an array or a shape holds typed PRNG keys."""
    dtype = aval(x).dtype if isinstance(x, Var | Literal) else x.dtype
    return jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def variables(equation: JaxprEqn) -> list[Var]:
    """Return the variables that an equation reads."""
    return [atom for atom in equation.invars if isinstance(atom, Var)]


def size(var: Var) -> int:
    """Return the number of entries."""
    return math.prod(aval(var).shape)


def value(literal: Literal) -> np.ndarray:
    """Return a literal as an array with the dtype of its type."""
    return np.asarray(literal.val, aval(literal).dtype)


def is_wide(atom: Var | Literal) -> bool:
    """Return whether an atom has 64 bits that the settings of the caller do not allow."""
    dtype = getattr(atom.aval, "dtype", None)
    return isinstance(dtype, np.dtype) and dtype != jax.dtypes.canonicalize_dtype(dtype)


def called(equation: JaxprEqn) -> ClosedJaxpr | None:
    """Return the program that an equation calls with its operands; None if it calls none.

    >>> (equation,) = jax.make_jaxpr(jax.jit(lambda x: x + 1))(0.0).eqns
    >>> [inner.primitive.name for inner in called(equation).eqns]
    ['add']
    """
    primitive: Any = equation.primitive
    if primitive.name == "call_hi_primitive":  # since JAX 0.12; it writes its program on request
        wide = any(map(is_wide, equation.invars))
        with enable_x64(True) if wide else contextlib.nullcontext():
            avals: list[Any] = [atom.aval for atom in equation.invars]
            specs = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]
            return jax.make_jaxpr(partial(primitive.to_lojax, **equation.params))(*specs)
    if primitive.name not in _CALLS:
        return None
    (body,) = (equation.params[name] for name in _BODIES if name in equation.params)
    return closed(body)


def equations(*programs: Jaxpr | ClosedJaxpr) -> Iterator[JaxprEqn]:
    """Yield every equation of programs and of the programs in these; a shared one counts once.

    >>> program = jax.make_jaxpr(lambda x: jax.lax.fori_loop(0, 3, lambda i, x: x * x, x))(1.0)
    >>> [equation.primitive.name for equation in equations(program)]
    ['scan', 'add', 'mul']
    """
    seen: set[int] = set()
    waiting = list(programs)
    while waiting:
        program = waiting.pop()
        if id(program) not in seen:
            seen.add(id(program))
            for equation in program.eqns:
                yield equation
                inside = list(jaxprs_in_params(equation.params)) or [called(equation)]
                waiting.extend(program for program in inside if program is not None)


def bind(equation: JaxprEqn, operands: Sequence[Any]) -> list[Any]:
    """Apply one equation as JAX does, to arrays or to values that it traces."""
    inputs: list[Any] = [Var(atom.aval) for atom in equation.invars]
    alone = equation.replace(invars=inputs)
    program = _EMPTY.replace(invars=inputs, outvars=alone.outvars, eqns=[alone])
    try:
        return jax.core.eval_jaxpr(program, (), *operands)
    except NotImplementedError as error:
        if jax.__version_info__ >= (0, 8):
            raise
        raise ValueError(
            f"jax {jax.__version__} cannot evaluate a loop ({equation.primitive}) while something "
            'else is traced. Upgrade it: pip install -U "jax>=0.8"'
        ) from error


def _itself(atom: Var | Literal, value: Any) -> Any:
    return value


def evaluate(
    program: ClosedJaxpr,
    operands: Sequence[Any],
    apply: Callable[[JaxprEqn, list], Sequence[Any]],
    constant: Callable[[Var | Literal, Any], Any] = _itself,
) -> list[Any]:
    """Return the results of a program; `apply` says what each equation does.

    A value is dropped after the last equation that reads it.

    Args:
        program: with the values of its constants.
        operands: what it is applied to.
        apply: an equation and its operands -> its results.
        constant: a constant or a literal of the program, and its value -> what it stands for.

    Returns:
        The results.

    >>> program = jax.make_jaxpr(lambda x: 2 * x + 1)(0.0)
    >>> def written(equation, operands):
    ...     return [(equation.primitive.name, *operands)]
    >>> evaluate(program, ["x"], written, lambda atom, value: float(value))
    [('add', ('mul', 2.0, 'x'), 1.0)]
    """
    jaxpr = program.jaxpr
    returned = {atom for atom in jaxpr.outvars if isinstance(atom, Var)}
    last = {var: i for i, each in enumerate(jaxpr.eqns) for var in _named(each) - returned}
    values = {
        var: constant(var, value)
        for var, value in zip(jaxpr.constvars, program.consts, strict=True)
    }
    values.update(zip(jaxpr.invars, operands, strict=True))

    def read(atom):
        return constant(atom, atom.val) if isinstance(atom, Literal) else values[atom]

    for i, equation in enumerate(jaxpr.eqns):
        results = apply(equation, [read(atom) for atom in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
        for var in _named(equation):
            if last.get(var) == i:
                del values[var]
    return [read(atom) for atom in jaxpr.outvars]


def _named(equation: JaxprEqn) -> set[Var]:
    return {a for a in (*equation.invars, *equation.outvars) if isinstance(a, Var)}


def scan_operands(equation: JaxprEqn, operands: Sequence[Any]) -> tuple[list, list, list]:
    """Split a scan's operands: what each step reads, what it passes on, what has a row for each."""
    params = equation.params
    if "ft_in" in params:  # since JAX 0.11
        constants, carried = (len(part) for part in params["ft_in"].unpack()[:2])
    else:
        constants, carried = params["num_consts"], params["num_carry"]
    end = constants + carried
    return list(operands[:constants]), list(operands[constants:end]), list(operands[end:])


def unroll_scan(
    equation: JaxprEqn,
    operands: Sequence[Any],
    run: Run,
    row: Callable[[Any, int], Any],
    stack: Callable[[Sequence[Any]], Any],
) -> list[Any]:
    """Return the results of a scan of at least one step, run step by step.

    Args:
        equation: the scan.
        operands: what it is applied to.
        run: runs the body.
        row: an operand and the number of a step -> the row that the step reads.
        stack: rows of results -> one array of them.
    """
    body, length = closed(equation.params["jaxpr"]), equation.params["length"]
    constants, carry, rows = scan_operands(equation, operands)
    steps = range(length)[:: -1 if equation.params["reverse"] else 1]
    collected: list[Any] = [None] * length
    for step in steps:
        results = run(body, [*constants, *carry, *(row(each, step) for each in rows)])
        carry, collected[step] = results[: len(carry)], results[len(carry) :]
    return [*carry, *map(stack, zip(*collected, strict=True))]


def run_while(
    equation: JaxprEqn,
    operands: Sequence[Any],
    holds: Callable[[ClosedJaxpr, list], bool],
    run: Run,
) -> list[Any]:
    """Return the results of a while loop.

    Args:
        equation: the loop.
        operands: what it is applied to.
        holds: the condition, a program, and its operands -> whether it holds.
        run: runs the body.
    """
    condition, body, tested, fixed, carry = while_operands(equation, operands)
    while holds(condition, [*tested, *carry]):
        carry = run(body, [*fixed, *carry])
    return carry


def while_operands(
    equation: JaxprEqn, operands: Sequence[Any]
) -> tuple[ClosedJaxpr, ClosedJaxpr, list, list, list]:
    """Return the condition and the body of a while loop, and their operands.

    Those that the condition alone reads come first, then those of the body alone, then those that
    each step passes on.
    """
    params = equation.params
    start, end = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    condition, body = closed(params["cond_jaxpr"]), closed(params["body_jaxpr"])
    return condition, body, list(operands[:start]), list(operands[start:end]), list(operands[end:])


class Mapped(NamedTuple):
    """A ``shard_map``: what each device runs, the sizes of the mesh axes, and who holds what."""

    body: ClosedJaxpr
    mesh: Any
    sizes: dict[str, int]
    in_specs: Sequence[PartitionSpec]
    out_specs: Sequence[PartitionSpec]
    check_vma: bool


def mapped(equation: JaxprEqn) -> Mapped:
    """Take a ``shard_map`` apart."""
    params = equation.params
    axes = params["newly_manual_axes" if "newly_manual_axes" in params else "manual_axes"]
    sizes = {axis: n for axis, n in params["mesh"].shape.items() if axis in axes}
    specs = params["in_specs"], params["out_specs"]
    return Mapped(closed(params["jaxpr"]), params["mesh"], sizes, *specs, params["check_vma"])


def traced_on_device(call: Mapped | None, function: Callable, *avals: Any) -> ClosedJaxpr:
    """Trace a function as one that a device runs in a ``shard_map``, or, for None, outside."""

    def zeros(aval):
        zeros, axes = jax.numpy.zeros(aval.shape, aval.dtype), aval.manual_axis_type.varying
        return jax.lax.pcast(zeros, tuple(axes), to="varying") if axes else zeros

    def traced():
        programs.append(jax.make_jaxpr(function)(*jax.tree.map(zeros, avals)))
        return ()

    programs: list[ClosedJaxpr] = []
    if call is not None:
        specs = {"in_specs": (), "out_specs": (), "check_vma": call.check_vma}
        traced = jax.shard_map(traced, mesh=call.mesh, axis_names=set(call.sizes), **specs)
    jax.eval_shape(traced)
    return programs[0]
