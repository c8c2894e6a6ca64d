"""Initializers as configurations: names and plain data, in JSON, YAML, Hydra and others."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import yaml

import flaxinit
from flaxinit.initializers.config import forms

KEY = jax.random.key(9)
INFINITE = np.inf
# Names that take no argument, and what the others need.
NEEDS = {
    "variance_scaling": {"scale": 2.0, "mode": "fan_avg", "distribution": "normal"},
    "constant": {"value": 0.5},
    "sparse": {"sparsity": 0.5},
    "chrono": {"t_max": 50},
    "concatenate": {"parts": [{"name": "zeros"}, {"name": "he"}], "sizes": [1, 2]},
    "icnr": {"init": {"name": "he"}},
    "like_kernel": {"init": {"name": "he"}, "kernel": [64, 8]},
    "small_init": {"width": 64},
    "wang_init": {"layers": 2, "width": 64},
    "stack": {"parts": [{"name": "he"}, {"name": "constant", "value": [1.0, 2.0]}]},
}
VALUES = [
    *(flaxinit.get({"name": name, **NEEDS.get(name, {})}) for name in forms()),
    flaxinit.he("gelu", mode="fan_avg", in_axis=(0, 1), batch_axis=3, dtype="bfloat16"),
    flaxinit.he(strides=(2, 1), groups=4, transposed=True, fan_in=3.0),
    flaxinit.truncated_normal(1 / 3, lower=0.5, upper=INFINITE),
    flaxinit.truncated_normal(1 / 3, lower=-INFINITE, upper=0),
    flaxinit.uniform(0.1, minval=-0.3),
    flaxinit.constant(1 / 3 + 2j, "complex64"),
    flaxinit.constant(np.random.default_rng(0).normal(size=(2, 3))),
    flaxinit.constant(np.array([1j, 2 / 3, -0.0])),
    flaxinit.forget_bias(order="fiog"),
    flaxinit.stft(window=None, scaling="density"),
    flaxinit.recipes.sincos_positions(grid=(2, 3), dtype="bfloat16"),
    flaxinit.recipes.icnr(flaxinit.orthogonal(2.0), 9, "tile"),
    flaxinit.recipes.like_kernel(flaxinit.he_uniform("gelu"), "weight_ih"),
]
every = pytest.mark.parametrize("init", VALUES, ids=repr)


@every
def test_json_and_yaml_give_an_equal_initializer(init):
    config = init.to_config()
    assert flaxinit.get(config) == init
    assert flaxinit.get(json.loads(json.dumps(config, allow_nan=False))) == init
    assert flaxinit.get(yaml.safe_load(yaml.safe_dump(config))) == init
    assert config == flaxinit.get(config).to_config()


def test_every_public_initializer_has_a_name():
    """And nothing else has one: no class of another kind, no function that makes no initializer."""

    def classes(cls=flaxinit.Initializer):
        return {cls}.union(*map(classes, cls.__subclasses__()))

    names = {*flaxinit.__all__, *flaxinit.recipes.__all__}
    public = {cls.__name__ for cls in classes()} & names - {"Initializer"}
    assert public <= set(forms()) <= names
    assert {"he_uniform", "zeros", "ones_init", "kaiming_normal"} <= set(forms())
    outside = {"Initializer", "gain", "derive", "fast_init", "lora", "mimetic", "residual_factor"}
    assert not outside & set(forms())
    assert not (set(jax.nn.initializers.__dict__) & set(flaxinit.__all__) - {"Initializer"}) - set(
        forms()
    )


def test_a_name_is_the_call_without_arguments():
    assert flaxinit.get("he_uniform") == flaxinit.he_uniform()
    assert flaxinit.get("zeros") is flaxinit.zeros
    assert flaxinit.get(flaxinit.lecun()) == flaxinit.lecun()
    assert flaxinit.get({"name": "ones", "dtype": "float16"}) == flaxinit.ones(dtype="float16")
    tanh = {"name": "he", "activation": "tanh", "mode": "fan_out"}
    assert flaxinit.get(tanh) == flaxinit.he("tanh", mode="fan_out")
    assert tanh == {"name": "he", "activation": "tanh", "mode": "fan_out"}  # it is left as it was


BAD = {
    "a name": (lambda: flaxinit.get("he_unifrom"), ValueError, "'he_unifrom'. Did you mean 'he_u"),
    "Keras's name": (lambda: flaxinit.get("HeUniform"), ValueError, "Did you mean 'he_uniform'"),
    "far from all": (lambda: flaxinit.get("qqq"), ValueError, "No initializer is called 'qqq'.$"),
    "an activation": (
        lambda: flaxinit.get("gelu"),
        ValueError,
        'an activation: {"name": "he", "activation": "gelu"}',
    ),
    "an activation for a number": (
        lambda: flaxinit.get({"name": "orthogonal", "scale": "gelu"}),
        TypeError,
        r"flaxinit\.gain\('gelu'\) on a deviation",
    ),
    "a list for a choice": (
        lambda: flaxinit.get({"name": "he", "mode": ["fan_in"]}),
        ValueError,
        r"mode must be one of .*; got \['fan_in'\]",
    ),
    "a call": (lambda: flaxinit.get("he('gelu')"), ValueError, "No initializer is called"),
    "code": (lambda: flaxinit.get("__import__('os').getcwd()"), ValueError, "No initializer"),
    "a path": (lambda: flaxinit.get("os.system"), ValueError, "No initializer is called"),
    "another function": (lambda: flaxinit.get("fast_init"), ValueError, "No initializer"),
    "a field": (
        lambda: flaxinit.get({"name": "he", "activatoin": "gelu"}),
        TypeError,
        "^he takes no keyword 'activatoin'. Did you mean 'activation'",
    ),
    "a field of zeros": (
        lambda: flaxinit.get({"name": "zeros", "value": 1}),
        TypeError,
        "^zeros takes no keyword 'value'",
    ),
    "too few": (lambda: flaxinit.get("variance_scaling"), TypeError, "needs 'scale' and 'mode'"),
    "too few of a function": (
        lambda: flaxinit.get({"name": "wang_init", "width": 8}),
        TypeError,
        "^wang_init needs 'layers'",
    ),
    "no name": (lambda: flaxinit.get({"stddev": 0.1}), ValueError, 'initializer under "name"'),
    "a name that is a number": (lambda: flaxinit.get({"name": 3}), ValueError, 'under "name"'),
    "nothing": (lambda: flaxinit.get(None), TypeError, "got None"),
    "a class": (lambda: flaxinit.get(flaxinit.normal), TypeError, "A configuration is a name"),
    "a value": (
        lambda: flaxinit.get({"name": "normal", "stddev": "0.1 + 0.1"}),
        TypeError,
        "stddev must be a number",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_configuration_says_what_is_wrong(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


def test_what_is_traced_has_no_configuration():
    def write(s):
        with pytest.raises(TypeError, match=r"stddev is .* which no configuration can hold"):
            flaxinit.normal(s).to_config()
        return s

    jax.jit(write)(0.5)


@dataclasses.dataclass
class Model:
    kernel_init: object
    inits: object = None


def missing(name):
    reason = f"{name} is not installed; `pip install flaxinit[elsewhere]` has it"
    return pytest.importorskip(name, reason=reason)


MODEL = f"{__name__}.Model"


@pytest.mark.parametrize("convert", ["none", "partial", "object", "all"])
def test_hydra_makes_initializers_in_nested_nodes(convert):
    instantiate = missing("hydra.utils").instantiate
    made = instantiate(
        {
            "_target_": MODEL,
            "_convert_": convert,
            "kernel_init": {"_target_": "flaxinit.he", "activation": "gelu", "in_axis": [0, 1]},
        }
    )
    assert made.kernel_init == flaxinit.he("gelu", in_axis=(0, 1))
    spec = {"name": "variance_scaling", **NEEDS["variance_scaling"], "strides": [2, 1]}
    node = {"_target_": "flaxinit.get", "_args_": [spec], "_convert_": convert}
    assert instantiate(node) == flaxinit.get(spec)
    array = {"_target_": "flaxinit.constant", "value": [1.0, 2.0], "_convert_": convert}
    assert instantiate(array) == flaxinit.constant([1.0, 2.0])
    partial = {"_target_": "flaxinit.normal", "stddev": 0.02, "_partial_": True}
    assert instantiate(partial)(dtype="bfloat16") == flaxinit.normal(0.02, "bfloat16")


def test_omegaconf_gives_its_nodes_to_get():
    OmegaConf = missing("omegaconf").OmegaConf
    node = OmegaConf.create(
        {"width": 4, "init": {"name": "lecun", "fan_in": "${width}", "in_axis": [0, 1]}}
    )
    assert flaxinit.get(node.init) == flaxinit.lecun(fan_in=4, in_axis=(0, 1))
    assert flaxinit.he(strides=OmegaConf.create([2, 1])) == flaxinit.he(strides=(2, 1))
    for init in VALUES:
        assert flaxinit.get(OmegaConf.create(init.to_config())) == init


@every
@pytest.mark.parametrize("flags", [{}, {"allow_objects": True}])
def test_no_initializer_turns_into_a_config_in_silence(init, flags):
    """OmegaConf takes dataclasses for configs of their fields; ours have one that it refuses."""
    omegaconf = missing("omegaconf")
    with pytest.raises(omegaconf.errors.OmegaConfBaseException):
        omegaconf.OmegaConf.create({"init": init}, flags=flags)


def test_ml_collections_hold_initializers_and_their_configurations():
    collections = missing("ml_collections")
    config = collections.ConfigDict({"init": flaxinit.he(), "spec": flaxinit.he().to_config()})
    assert config.init == flaxinit.he() == flaxinit.get(config.spec)
    frozen = collections.FrozenConfigDict({"spec": {"name": "he", "in_axis": [0, 1]}})
    assert flaxinit.get(frozen.spec) == flaxinit.he(in_axis=(0, 1))
    with pytest.raises(ValueError, match="No initializer"):
        flaxinit.get(collections.ConfigDict({"name": "hee!"}))


def test_fiddle_builds_initializers():
    fdl = missing("fiddle")
    config = fdl.Config(Model, kernel_init=fdl.Config(flaxinit.he, activation="gelu"))
    config.kernel_init.mode = "fan_avg"
    assert fdl.build(config).kernel_init == flaxinit.he("gelu", mode="fan_avg")
    normal = fdl.Config(flaxinit.normal, stddev=0.1)
    normal.dtype = "bfloat16"
    assert fdl.build(normal) == flaxinit.normal(0.1, "bfloat16")
    assert fdl.build(fdl.Config(flaxinit.get, "he_uniform")) == flaxinit.he_uniform()
