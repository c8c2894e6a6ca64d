"""The catalogue: the activations known by name, their formulas, other names and moments.

A formula defines its activation. The book (`derivations/activations`) cites the papers and writes
the moments. An activation that has no page yet is derived on use.
"""

import difflib
import json
from pathlib import Path

CATALOGUE: dict[str, str] = {
    # Piecewise polynomial
    "linear": "x",
    "relu": "max(x, 0)",
    "leaky_relu": "where(x > 0, x, x / 100)",
    "prelu": "where(x > 0, x, x / 4)",  # its initial slope
    "relu6": "min(max(x, 0), 6)",
    "relu_squared": "max(x, 0)**2",
    "star_relu": "(2 * max(x, 0)**2 - 1) / sqrt(5)",
    "abs": "abs(x)",
    "square": "x**2",
    "step": "where(x > 0, 1, 0)",
    "sign": "sign(x)",
    "hard_tanh": "max(min(x, 1), -1)",
    "hard_sigmoid": "min(max(x + 3, 0), 6) / 6",
    "hard_swish": "x * min(max(x + 3, 0), 6) / 6",
    "softshrink": "sign(x) * max(abs(x) - 1/2, 0)",  # its threshold is 1/2
    "hardshrink": "where(abs(x) > 1/2, x, 0)",  # its threshold is 1/2
    "sparse_plus": "where(x <= -1, 0, where(x >= 1, x, (x + 1)**2 / 4))",
    "sparse_sigmoid": "min(max(x + 1, 0), 2) / 2",
    # Exponential pieces
    "elu": "where(x > 0, x, exp(x) - 1)",
    "celu": "max(x, 0) + min(exp(x) - 1, 0)",
    "selu": "selu_scale * where(x > 0, x, selu_alpha * (exp(x) - 1))",
    "exp": "exp(x)",
    "gaussian": "exp(-x**2)",
    "x_gaussian": "x * exp(-x**2)",
    # Trigonometric
    "sin": "sin(x)",
    "cos": "cos(x)",
    "snake": "x + sin(x)**2",  # its frequency is 1
    "x_cos": "x * cos(x)",
    # Error functions
    "erf": "erf(x)",
    "normal_cdf": "normal_cdf(x)",
    "gelu": "x * normal_cdf(x)",
    # Algebraic
    "squareplus": "(x + sqrt(x**2 + 4)) / 2",
    "isru": "x / sqrt(1 + x**2)",
    "isrlu": "where(x > 0, x, x / sqrt(1 + x**2))",
    "bent_identity": "(sqrt(x**2 + 1) - 1) / 2 + x",
    "softsign": "x / (1 + abs(x))",
    # Logistic and hyperbolic: no closed form is known
    "gelu_tanh": "x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))",
    "quick_gelu": "x * sigmoid(1.702 * x)",
    "silu": "x * sigmoid(x)",
    "tanh": "tanh(x)",
    "sigmoid": "sigmoid(x)",
    "softplus": "softplus(x)",
    "log_sigmoid": "-softplus(-x)",
    "mish": "x * tanh(softplus(x))",
    "arctan": "arctan(x)",
    "log_cosh": "log(cosh(x))",
    "tanhshrink": "x - tanh(x)",
    "serf": "x * erf(softplus(x))",
    "lisht": "x * tanh(x)",
}

# Other libraries' names.
ALIASES: dict[str, str] = {
    "identity": "linear",
    "squared_relu": "relu_squared",
    "relu2": "relu_squared",
    "heaviside": "step",
    "hardtanh": "hard_tanh",
    "hardsigmoid": "hard_sigmoid",
    "hard_silu": "hard_swish",
    "hardswish": "hard_swish",
    "gcu": "x_cos",
    "probit": "normal_cdf",
    "soft_sign": "softsign",
    "swish": "silu",
    "logistic": "sigmoid",
    "atan": "arctan",
}
# Gates of two arrays, u and v, which have no formula in x.
GATES: dict[str, str] = {
    "glu": "u * jax.nn.sigmoid(v)",
    "reglu": "jax.nn.relu(u) * v",
    "geglu": "jax.nn.gelu(u) * v",
    "swiglu": "jax.nn.silu(u) * v",
}
VARIABLES = ("x", "z")  # what a formula may call its variable

# name -> (E[φ(z)²], E[φ'(z)²]) for z ~ N(0, 1): a named activation needs no SymPy.
# `python -m derivations` writes the file.
MOMENTS: dict[str, tuple[float, float]] = {
    name: (second, backward)
    for name, (second, backward) in json.loads(
        Path(__file__).with_name("moments.json").read_text("utf-8")
    ).items()
}


def catalogue_name(text: str) -> str | None:
    """Return the catalogue's name of an activation, or None if the text is a formula.

    Raises:
        ValueError: if the text is a single word, but neither a known name nor a variable.

    >>> catalogue_name("swish"), catalogue_name("x * tanh(x)")
    ('silu', None)
    """
    text = text.strip()
    name = ALIASES.get(text, text)
    if name in CATALOGUE:
        return name
    if not text.isidentifier() or text in VARIABLES:
        return None
    if text.lower() in GATES:
        raise ValueError(
            f"{text!r} is a gate of two arrays. Pass it as a function: "
            f"lambda u, v: {GATES[text.lower()]}."
        )
    near = difflib.get_close_matches(text.lower(), [*CATALOGUE, *ALIASES], cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "see `flaxinit table`"
    shown = repr(text if len(text) <= 60 else text[:57] + "...")
    raise ValueError(
        f"{shown} is not in the catalogue of activations ({hint}). Pass a new activation as a "
        "formula in x, such as 'x * tanh(softplus(x))', a SymPy expression or a JAX function."
    )
