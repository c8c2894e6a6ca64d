"""The catalogue: the activations known by name, each as a formula.

The formula is the definition; ``jax`` names the function it is held against in the tests,
where JAX has one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sympy import Expr

from flaxinit.aliases import ALIASES
from flaxinit.theory.functions.constants import SeluAlpha, SeluScale
from flaxinit.theory.functions.symbols import z
from flaxinit.theory.reading.formula import read_formula


@dataclass(frozen=True)
class Entry:
    """A catalogue activation: formula, where it comes from, JAX's function."""

    formula: str
    source: str
    jax: str | None = None

    @property
    def expr(self):
        """The SymPy expression in z; SELU's two constants in their closed form."""
        named = {"selu_scale": SeluScale(), "selu_alpha": SeluAlpha()}
        expr = read_formula(self.formula)
        return expr.subs({s: named[s.name] for s in expr.free_symbols if s.name in named})


CATALOGUE: dict[str, Entry] = {
    # Piecewise polynomial
    "linear": Entry("x", "identity"),
    "relu": Entry("max(x, 0)", "Nair & Hinton (2010)", "jax.nn.relu"),
    "leaky_relu": Entry("where(x > 0, x, x / 100)", "Maas et al. (2013)", "jax.nn.leaky_relu"),
    "prelu": Entry("where(x > 0, x, x / 4)", "He et al. (2015), at its initial slope 1/4"),
    "relu6": Entry("min(max(x, 0), 6)", "Krizhevsky (2010)", "jax.nn.relu6"),
    "relu_squared": Entry("max(x, 0)**2", "So et al. (2021)"),
    "abs": Entry("abs(x)", "absolute value", "jax.numpy.abs"),
    "square": Entry("x**2", "quadratic", "jax.numpy.square"),
    "step": Entry("where(x > 0, 1, 0)", "Heaviside's unit step"),
    "sign": Entry("sign(x)", "sign", "jax.numpy.sign"),
    "hard_tanh": Entry("max(min(x, 1), -1)", "Collobert (2004)", "jax.nn.hard_tanh"),
    "hard_sigmoid": Entry(
        "min(max(x + 3, 0), 6) / 6", "Howard et al. (2019)", "jax.nn.hard_sigmoid"
    ),
    "hard_swish": Entry(
        "x * min(max(x + 3, 0), 6) / 6", "Howard et al. (2019)", "jax.nn.hard_swish"
    ),
    "softshrink": Entry("sign(x) * max(abs(x) - 1/2, 0)", "Donoho (1995), threshold 1/2"),
    "hardshrink": Entry("where(abs(x) > 1/2, x, 0)", "Donoho & Johnstone (1994), threshold 1/2"),
    "sparse_plus": Entry(
        "where(x <= -1, 0, where(x >= 1, x, (x + 1)**2 / 4))", "JAX", "jax.nn.sparse_plus"
    ),
    "sparse_sigmoid": Entry(
        "min(max(x + 1, 0), 2) / 2", "Martins & Astudillo (2016)", "jax.nn.sparse_sigmoid"
    ),
    # Exponential pieces
    "elu": Entry("where(x > 0, x, exp(x) - 1)", "Clevert et al. (2016)", "jax.nn.elu"),
    "celu": Entry("max(x, 0) + min(exp(x) - 1, 0)", "Barron (2017)", "jax.nn.celu"),
    "selu": Entry(
        "selu_scale * where(x > 0, x, selu_alpha * (exp(x) - 1))",
        "Klambauer et al. (2017)",
        "jax.nn.selu",
    ),
    "exp": Entry("exp(x)", "exponential", "jax.numpy.exp"),
    "gaussian": Entry("exp(-x**2)", "radial basis function"),
    "x_gaussian": Entry("x * exp(-x**2)", "derivative of a Gaussian, up to a factor"),
    # Trigonometric
    "sin": Entry("sin(x)", "Sitzmann et al. (2020)", "jax.numpy.sin"),
    "cos": Entry("cos(x)", "Rahimi & Recht (2007)", "jax.numpy.cos"),
    "snake": Entry("x + sin(x)**2", "Ziyin et al. (2020), frequency 1"),
    "x_cos": Entry("x * cos(x)", "growing cosine unit, Noel et al. (2021)"),
    # Error functions
    "erf": Entry("erf(x)", "error function", "jax.lax.erf"),
    "normal_cdf": Entry("normal_cdf(x)", "probit", "jax.scipy.stats.norm.cdf"),
    "gelu": Entry("x * normal_cdf(x)", "Hendrycks & Gimpel (2016)"),
    # Algebraic
    "squareplus": Entry("(x + sqrt(x**2 + 4)) / 2", "Barron (2021)", "jax.nn.squareplus"),
    "isru": Entry("x / sqrt(1 + x**2)", "Carlile et al. (2017)"),
    "isrlu": Entry("where(x > 0, x, x / sqrt(1 + x**2))", "Carlile et al. (2017)"),
    "bent_identity": Entry("(sqrt(x**2 + 1) - 1) / 2 + x", "folklore"),
    "softsign": Entry("x / (1 + abs(x))", "Bergstra et al. (2009)", "jax.nn.soft_sign"),
    # Logistic and hyperbolic: no closed form is known
    "gelu_tanh": Entry(
        "x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))",
        "Hendrycks & Gimpel (2016)",
        "jax.nn.gelu",
    ),
    "quick_gelu": Entry("x * sigmoid(1.702 * x)", "Hendrycks & Gimpel (2016)"),
    "silu": Entry("x * sigmoid(x)", "Elfwing et al. (2018)", "jax.nn.silu"),
    "tanh": Entry("tanh(x)", "hyperbolic tangent", "jax.numpy.tanh"),
    "sigmoid": Entry("sigmoid(x)", "logistic function", "jax.nn.sigmoid"),
    "softplus": Entry("softplus(x)", "Dugas et al. (2001)", "jax.nn.softplus"),
    "log_sigmoid": Entry("-softplus(-x)", "log of the logistic", "jax.nn.log_sigmoid"),
    "mish": Entry("x * tanh(softplus(x))", "Misra (2020)", "jax.nn.mish"),
    "arctan": Entry("arctan(x)", "inverse tangent", "jax.numpy.arctan"),
    "log_cosh": Entry("log(cosh(x))", "logarithm of cosh"),
    "tanhshrink": Entry("x - tanh(x)", "PyTorch"),
    "serf": Entry("x * erf(softplus(x))", "Nag et al. (2023)"),
    "lisht": Entry("x * tanh(x)", "Roy et al. (2019)"),
}


def _applied(name: str, argument: Expr) -> Expr:
    return CATALOGUE[name].expr.subs(z, argument)


# In a formula each is a function.
ACTIVATIONS: dict[str, Callable[[Expr], Expr]] = {
    name: partial(_applied, ALIASES.get(name, name)) for name in (*CATALOGUE, *ALIASES)
}
