"""The catalogue: the activations known by name, each as a formula.

The formula is the definition; ``jax`` names the function it is held against in the tests,
where JAX has one. Aliases are other libraries' names for the same function.
"""

from dataclasses import dataclass

from flaxinit.theory.constants import SeluAlpha, SeluScale
from flaxinit.theory.formula import read_formula


@dataclass(frozen=True)
class Entry:
    """A catalogue activation: formula, where it comes from, JAX's function, other names."""

    formula: str
    source: str
    jax: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def expr(self):
        """The SymPy expression in z; SELU's two constants in their closed form."""
        named = {"selu_scale": SeluScale(), "selu_alpha": SeluAlpha()}
        expr = read_formula(self.formula)
        return expr.subs({s: named[s.name] for s in expr.free_symbols if s.name in named})


CATALOGUE: dict[str, Entry] = {
    "linear": Entry("x", "identity", aliases=("identity",)),
    "relu": Entry("max(x, 0)", "Nair & Hinton (2010)", "jax.nn.relu"),
    "leaky_relu": Entry(
        "where(x > 0, x, x / 100)", "Maas, Hannun & Ng (2013)", "jax.nn.leaky_relu"
    ),
    "elu": Entry("where(x > 0, x, exp(x) - 1)", "Clevert et al. (2016)", "jax.nn.elu"),
    "selu": Entry(
        "selu_scale * where(x > 0, x, selu_alpha * (exp(x) - 1))",
        "Klambauer et al. (2017)",
        "jax.nn.selu",
    ),
    "gelu": Entry("x * normal_cdf(x)", "Hendrycks & Gimpel (2016)"),
    "gelu_tanh": Entry(
        "x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))",
        "Hendrycks & Gimpel (2016)",
        "jax.nn.gelu",
    ),
    "silu": Entry("x * sigmoid(x)", "Elfwing et al. (2018)", "jax.nn.silu", ("swish",)),
    "tanh": Entry("tanh(x)", "hyperbolic tangent", "jax.numpy.tanh"),
    "sigmoid": Entry("sigmoid(x)", "logistic function", "jax.nn.sigmoid", ("logistic",)),
    "softplus": Entry("softplus(x)", "Dugas et al. (2001)", "jax.nn.softplus"),
    "erf": Entry("erf(x)", "error function", "jax.lax.erf"),
    "sin": Entry("sin(x)", "Sitzmann et al. (2020)", "jax.numpy.sin"),
}
ALIASES = {alias: name for name, entry in CATALOGUE.items() for alias in entry.aliases}
