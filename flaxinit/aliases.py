"""The names of activations: those of the catalogue, and other libraries' names for them."""

import difflib

from flaxinit.gains import MOMENTS

# alias -> name
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
VARIABLES = ("x", "z")  # what a formula may call its variable


def catalogue_name(text: str) -> str | None:
    """The catalogue's name for what a text names; None for a formula.

    Raises:
        ValueError: for a single word that is neither a name nor a variable.

    >>> catalogue_name("swish"), catalogue_name("x * tanh(x)")
    ('silu', None)
    """
    text = text.strip()
    name = ALIASES.get(text, text)
    if name in MOMENTS:
        return name
    if not text.isidentifier() or text in VARIABLES:
        return None
    near = difflib.get_close_matches(text.lower(), [*MOMENTS, *ALIASES], cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "see `flaxinit table`"
    shown = repr(text if len(text) <= 60 else text[:57] + "...")
    raise ValueError(
        f"{shown} is not in the catalogue of activations ({hint}); a new one is given as a "
        "formula in x, such as 'x * tanh(softplus(x))', as a SymPy expression or a JAX function"
    )
