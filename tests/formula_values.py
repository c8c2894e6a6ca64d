"""Formulas computed without the engine: values, slopes and Gaussian moments, from Python's syntax.

This second reading of a formula is compared with the engine's. It uses no SymPy, no pieces and no
growth. Values and slopes are dual numbers, in float64 or in mpmath. Kinks are found where the value
that decides a branch changes its sign on a grid; panels are cut there.
"""

import ast
import functools
import itertools
import math
from types import SimpleNamespace

import mpmath
import numpy as np
from scipy import special

FLOATS = SimpleNamespace(
    **{name: getattr(np, name) for name in ("exp", "log", "sin", "cos", "tan", "sinh", "cosh")},
    **{name: getattr(np, name) for name in ("tanh", "sqrt", "sign", "where")},
    **{"asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh},
    **{"acosh": np.arccosh, "erf": special.erf, "erfc": special.erfc, "expm1": np.expm1},
    **{"log1p": np.log1p, "sigmoid": special.expit, "softplus": lambda x: np.logaddexp(0.0, x)},
    normal_cdf=special.ndtr,
    number=np.float64,
    constant=lambda name: np.float64(getattr(math, name)),
)
DIGITS = SimpleNamespace(
    **{name: getattr(mpmath, name) for name in ("exp", "log", "sin", "cos", "tan", "sinh", "cosh")},
    **{name: getattr(mpmath, name) for name in ("tanh", "sqrt", "sign", "asin", "acos", "atan")},
    **{name: getattr(mpmath, name) for name in ("asinh", "acosh", "erf", "erfc", "expm1", "log1p")},
    sigmoid=lambda x: 1 / (1 + mpmath.exp(-x)),
    softplus=lambda x: mpmath.log1p(mpmath.exp(x)),
    normal_cdf=mpmath.ncdf,
    where=lambda condition, a, b: a if condition else b,
    number=mpmath.mpf,
    constant=lambda name: +getattr(mpmath, name),
)
# The derivative of each function of one number.
SLOPES = {
    "exp": lambda m, x: m.exp(x),
    "expm1": lambda m, x: m.exp(x),
    "log": lambda m, x: 1 / x,
    "log1p": lambda m, x: 1 / (1 + x),
    "sin": lambda m, x: m.cos(x),
    "cos": lambda m, x: -m.sin(x),
    "tan": lambda m, x: 1 / m.cos(x) ** 2,
    "sinh": lambda m, x: m.cosh(x),
    "cosh": lambda m, x: m.sinh(x),
    "tanh": lambda m, x: 1 / m.cosh(x) ** 2,
    "sqrt": lambda m, x: 1 / (2 * m.sqrt(x)),
    "sign": lambda m, x: 0 * x,
    "asin": lambda m, x: 1 / m.sqrt(1 - x**2),
    "acos": lambda m, x: -1 / m.sqrt(1 - x**2),
    "atan": lambda m, x: 1 / (1 + x**2),
    "asinh": lambda m, x: 1 / m.sqrt(1 + x**2),
    "acosh": lambda m, x: 1 / m.sqrt(x**2 - 1),
    "erf": lambda m, x: 2 / m.sqrt(m.number(math.pi)) * m.exp(-(x**2)),
    "erfc": lambda m, x: -2 / m.sqrt(m.number(math.pi)) * m.exp(-(x**2)),
    "sigmoid": lambda m, x: m.sigmoid(x) * m.sigmoid(-x),
    "softplus": lambda m, x: m.sigmoid(x),
    "normal_cdf": lambda m, x: m.exp(-(x**2) / 2) / m.sqrt(m.number(2 * math.pi)),
}
# The other functions, by their definitions.
DEFINED = {
    "abs": "x * sign(x)",
    "relu": "where(x > 0, x, 0)",
    "arctan": "atan(x)",
    "gelu": "x * normal_cdf(x)",
    "silu": "x * sigmoid(x)",
    "mish": "x * tanh(softplus(x))",
    "elu": "where(x > 0, x, expm1(x))",
    "hard_tanh": "where(x > 1, 1, where(x < -1, -1, x))",
}


class Unknown(Exception):
    """The formula has something that is not known here, or its moment cannot be resolved."""


class Dual:
    """A value and its derivative in x."""

    def __init__(self, value, slope=0.0):
        self.value, self.slope = value, slope

    def __add__(self, other):
        return Dual(self.value + other.value, self.slope + other.slope)

    def __sub__(self, other):
        return Dual(self.value - other.value, self.slope - other.slope)

    def __mul__(self, other):
        return Dual(self.value * other.value, self.slope * other.value + self.value * other.slope)

    def __truediv__(self, other):
        value = self.value / other.value
        return Dual(value, (self.slope - value * other.slope) / other.value)


class Evaluation:
    """A formula at x, in one kind of numbers, and what decided its branches."""

    def __init__(self, kind: SimpleNamespace, x, switches: list | None = None):
        self.kind, self.x = kind, Dual(x, 0 * x + 1)
        self.switches = [] if switches is None else switches

    def __call__(self, node: ast.AST) -> Dual:
        match node:
            case ast.Constant(value=int() | float() as value):
                return Dual(self.kind.number(value))
            case ast.Name(id="x" | "z"):
                return self.x
            case ast.Name(id="pi" | "e" as name):
                return Dual(self.kind.constant(name))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return Dual(self.kind.number(-1)) * self(operand)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self(operand)
            case ast.BinOp(left, ast.Pow(), right):
                return self.power(self(left), self(right))
            case ast.BinOp(left, ast.Add(), right):
                return self(left) + self(right)
            case ast.BinOp(left, ast.Sub(), right):
                return self(left) - self(right)
            case ast.BinOp(left, ast.Mult(), right):
                return self(left) * self(right)
            case ast.BinOp(left, ast.Div(), right):
                return self(left) / self(right)
            case ast.IfExp(test, body, orelse):
                return self.where(self.holds(test), self(body), self(orelse))
            case ast.Call(ast.Name(name), arguments):
                return self.call(name, arguments)
        raise Unknown(ast.dump(node))

    def where(self, condition, a: Dual, b: Dual) -> Dual:
        pick = self.kind.where
        return Dual(pick(condition, a.value, b.value), pick(condition, a.slope, b.slope))

    def holds(self, node: ast.AST):
        match node:
            case ast.Compare(left, operators, others):
                places = [self(term).value for term in (left, *others)]
                self.switches += [a - b for a, b in itertools.pairwise(places)]
                relations = [
                    _RELATIONS[type(operator)](a, b)
                    for operator, a, b in zip(operators, places, places[1:], strict=False)
                ]
                return functools.reduce(np.logical_and, relations)
            case ast.BoolOp(operator, terms):
                joined = np.logical_and if isinstance(operator, ast.And) else np.logical_or
                return functools.reduce(joined, map(self.holds, terms))
        raise Unknown(ast.dump(node))

    def power(self, base: Dual, exponent: Dual) -> Dual:
        value = base.value**exponent.value
        slope = exponent.value * base.value ** (exponent.value - 1) * base.slope
        if np.any(exponent.slope != 0):
            slope = slope + value * self.kind.log(base.value) * exponent.slope
        return Dual(value, slope)

    def extreme(self, larger: bool, a: Dual, b: Dual) -> Dual:
        self.switches.append(a.value - b.value)
        return self.where((a.value > b.value) == larger, a, b)

    def call(self, name: str, arguments: list[ast.AST]) -> Dual:
        if name == "where":
            return self.where(self.holds(arguments[0]), *map(self, arguments[1:]))
        operands = [self(argument) for argument in arguments]
        if name in ("max", "min"):
            return functools.reduce(functools.partial(self.extreme, name == "max"), operands)
        (operand,) = operands
        if name == "sign":
            self.switches.append(operand.value)
        if name in DEFINED:
            inner = Evaluation(self.kind, operand.value, self.switches)
            result = inner(ast.parse(DEFINED[name], mode="eval").body)
        elif name in SLOPES:
            result = Dual(
                getattr(self.kind, name)(operand.value), SLOPES[name](self.kind, operand.value)
            )
        else:
            raise Unknown(name)
        return Dual(result.value, result.slope * operand.slope)


_RELATIONS = {
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Eq: lambda a, b: a == b,
}
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
_REACH, _TOLERANCE, _PANELS, _HALVINGS, _LARGEST = 38.0, 1e-13, 3000, 70, 1e6
_ROUNDING = 1e-12  # a constant that is smaller may be 0 but for rounding
_STEEP = 2.0 ** -np.arange(2, 40)  # widths of the panels beside 0, where φ may be as steep as 10⁶
_UNSEEN = 1e-7  # of E|φ|, that may change within a panel without being seen in the slope


def moments(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """E of φ, φ² and φ'² at q = 1, and of their absolute values, and the panels that it took.

    Raises:
        Unknown: if the formula is not known here, or float64 does not resolve the moments.
    """
    tree = ast.parse(text.strip(), mode="eval").body
    numbers = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    if any(abs(value) > _LARGEST for value in numbers):
        raise Unknown("a slope may be too steep to be seen by any panel")

    def value_and_slope(x):
        with np.errstate(all="ignore"):
            result = Evaluation(FLOATS, x)(tree)
        return [np.broadcast_to(v, x.shape) for v in (result.value, result.slope)]

    def integrand(x):
        f, slope = value_and_slope(x)
        with np.errstate(all="ignore"):
            return np.stack([f, f * f, slope * slope]) * density(x)

    def unseen(low, high):
        """How much of a change of φ on a panel the nodes do not see in φ', by its density."""
        half, inside = (high - low) / 2, 1e-9 * (high - low)
        slopes = value_and_slope((high + low)[:, None] / 2 + half[:, None] * _NODES)[1]
        change = value_and_slope(high - inside)[0] - value_and_slope(low + inside)[0]
        nearest = np.maximum(np.maximum(low, -high), 0)
        return np.abs(change - half * (slopes @ _WEIGHTS)) * density(nearest)

    ends = np.concatenate([np.arange(-_REACH, _REACH + 0.25, 0.5), -_STEEP, _STEEP, _kinks(tree)])
    ends = np.unique(ends)
    low, high = ends[:-1], ends[1:]
    whole, sizes = _panels(integrand, low, high)
    size_of_value = sizes[0].sum()
    total, size, taken = np.zeros(3), np.zeros(3), []
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        left, right = _panels(integrand, low, middle), _panels(integrand, middle, high)
        finer, sizes = left[0] + right[0], left[1] + right[1]
        if not np.all(np.isfinite(sizes)):
            raise Unknown("not finite in float64")
        bound = _TOLERANCE * (size + sizes.sum(axis=1))
        rough = np.any(np.abs(finer - whole) > bound[:, None], axis=0)
        rough |= unseen(low, middle) + unseen(middle, high) > _UNSEEN * size_of_value
        total += finer[:, ~rough].sum(axis=1)
        size += sizes[:, ~rough].sum(axis=1)
        taken += zip(low[~rough], high[~rough], strict=True)
        if not np.any(rough):
            return total, size, np.array(sorted(taken))
        whole = np.concatenate([left[0][:, rough], right[0][:, rough]], axis=1)
        low, high = np.append(low[rough], middle[rough]), np.append(middle[rough], high[rough])
        if low.size > _PANELS:
            break
    raise Unknown("it changes too fast")


def _kinks(tree: ast.AST) -> np.ndarray:
    """Where a branch may change, to rounding."""

    def switches(x):
        evaluation = Evaluation(FLOATS, x)
        with np.errstate(all="ignore"):
            evaluation(tree)
        return [np.broadcast_to(value, x.shape) for value in evaluation.switches]

    grid, found = np.linspace(-_REACH, _REACH, 20_001) + 1 / math.pi**8, []
    for k, values in enumerate(switches(grid)):
        constant = (values[1:] == values[:-1]) & (values[1:] != 0)
        if np.any(constant & (np.abs(values[1:]) < _ROUNDING)):
            raise Unknown("rounding decides a branch, as in sign(sin(pi))")
        signs = np.sign(values)
        at = np.nonzero(signs[:-1] * signs[1:] < 0)[0]
        low, high, below = grid[at], grid[at + 1], signs[at]
        for _ in range(60 if at.size else 0):
            middle = (low + high) / 2
            same = np.sign(switches(middle)[k]) == below
            low, high = np.where(same, middle, low), np.where(same, high, middle)
        found.append(high)
    return np.concatenate([np.zeros(0), *found])


def density(x: np.ndarray) -> np.ndarray:
    """Return the standard normal density."""
    return np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def _panels(integrand, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    half = (high - low)[:, None] / 2
    values = half * _WEIGHTS * integrand((high + low)[:, None] / 2 + half * _NODES)
    return values.sum(axis=2), np.abs(values).sum(axis=2)


def precise_moments(text: str, panels: np.ndarray, digits: int = 60) -> np.ndarray:
    """E of φ, φ² and φ'² on the given panels, with values in mpmath; slow."""
    tree = ast.parse(text.strip(), mode="eval").body
    total = np.array([mpmath.mpf(0)] * 3)
    with mpmath.workdps(digits):
        for low, high in panels:
            half = (high - low) / 2
            for node, weight in zip(_NODES, _WEIGHTS, strict=True):
                x = mpmath.mpf((high + low) / 2 + half * node)
                if not (density := mpmath.npdf(x) * weight * half):
                    continue
                try:
                    result = Evaluation(DIGITS, x)(tree)
                except (ArithmeticError, TypeError) as error:  # as for acos(2) < 1
                    raise Unknown(f"{error} at {x}") from None
                f, slope = mpmath.mpmathify(result.value), mpmath.mpmathify(result.slope)
                total += np.array([f, f * f, slope * slope]) * density
    return np.array([complex(value) for value in total])
