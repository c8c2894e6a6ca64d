"""Every initializer of jax.nn, torch.nn.init and keras has its counterpart."""

import inspect

import jax
import pytest

import flaxinit
from flaxinit.initializers.options import KernelOptions

# Function of torch.nn.init (2.x) or class of keras.initializers (3.x) -> flaxinit's name.
TORCH = {
    "uniform_": "uniform",
    "normal_": "normal",
    "trunc_normal_": "truncated_normal",
    "constant_": "constant",
    "ones_": "ones",
    "zeros_": "zeros",
    "eye_": "identity",
    "dirac_": "identity",
    "xavier_uniform_": "xavier_uniform",
    "xavier_normal_": "xavier_normal",
    "kaiming_uniform_": "kaiming_uniform",
    "kaiming_normal_": "kaiming_normal",
    "orthogonal_": "orthogonal",
    "sparse_": "sparse",
    "calculate_gain": "gain",
}
KERAS = {
    "Constant": "constant",
    "Zeros": "zeros",
    "Ones": "ones",
    "Identity": "identity",
    "RandomNormal": "normal",
    "RandomUniform": "uniform",
    "TruncatedNormal": "truncated_normal",
    "VarianceScaling": "variance_scaling",
    "GlorotNormal": "glorot_normal",
    "GlorotUniform": "glorot_uniform",
    "HeNormal": "he_normal",
    "HeUniform": "he_uniform",
    "LecunNormal": "lecun_normal",
    "LecunUniform": "lecun_uniform",
    "Orthogonal": "orthogonal",
    "STFT": "stft",
}
JAX = [name for name in dir(jax.nn.initializers) if not name.startswith("_")]


def arguments(function):
    """Name and default of each, in order."""
    return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", JAX)
def test_jaxs_names_and_arguments_are_taken(name):
    ours, theirs = getattr(flaxinit, name), getattr(jax.nn.initializers, name)
    if name == "Initializer":  # a protocol, which every one of ours meets
        assert isinstance(flaxinit.he(), ours) and inspect.signature(theirs.__call__)
    elif name in ("zeros", "ones"):
        names = [n for n, _ in arguments(theirs)]
        assert [n for n, _ in arguments(ours)][: len(names)] == names
    elif "activation" in inspect.signature(ours).parameters:
        # Ours begin with an activation, so they take JAX's arguments by name.
        assert arguments(theirs) == arguments(flaxinit.variance_scaling)[3:7]
        assert {n for n, _ in arguments(theirs)} <= set(KernelOptions.__annotations__)
    else:
        count = len(arguments(theirs))
        assert arguments(ours)[:count] == arguments(theirs)


@pytest.mark.parametrize("table", [TORCH, KERAS])
def test_initializers_of_torch_and_keras_have_a_counterpart(table):
    assert set(table.values()) <= set(flaxinit.__all__)
