"""Other libraries' names for activations of the catalogue: alias -> name."""

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
