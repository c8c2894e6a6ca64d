"""What a finding says to write, is written into the model; then the finding is gone."""

import re
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import flaxinit


class Convs(nn.Module):
    """A convolutional network; LeCun's kernel reads the images."""

    depth: int = 8
    width: int = 16
    activation: Any = nn.relu
    kernel: Any = flaxinit.he()
    odd: Any = None  # the kernel of one layer
    bias: Any = flaxinit.zeros
    center: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x):
        for n in range(self.depth):
            init = flaxinit.lecun() if n == 0 else (n == 5 and self.odd) or self.kernel
            x = self.activation(x) if n else x
            x = x - jnp.mean(x, axis=-1, keepdims=True) if self.center and n else x
            options = {"kernel_init": init, "bias_init": self.bias, "dtype": self.dtype}
            x = nn.Conv(self.width, (3, 3), **options)(x)
        return x


class Encoder(nn.Module):
    """Embeddings, attention and a GELU branch."""

    blocks: int = 2
    width: int = 32
    embedding: Any = flaxinit.normal(1.0)
    query: Any = flaxinit.lecun()
    end: Any = flaxinit.lecun()  # of each branch
    up: Any = flaxinit.lecun()
    residual: bool = True

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(100, self.width, embedding_init=self.embedding)(tokens)
        for _ in range(self.blocks):
            for branch in (self.attention, self.mlp):
                x = x + branch(nn.LayerNorm()(x)) if self.residual else nn.LayerNorm()(branch(x))
        return nn.Dense(10)(nn.LayerNorm()(x))

    def attention(self, x):
        heads = 4, self.width // 4
        q, k, v = (nn.DenseGeneral(heads, kernel_init=i)(x) for i in (*2 * [self.query], self.up))
        z = nn.dot_product_attention(q, k, v)
        return nn.DenseGeneral(self.width, axis=(-2, -1), kernel_init=self.end)(z)

    def mlp(self, x):
        h = nn.gelu(nn.Dense(4 * self.width, kernel_init=self.up)(x))
        return nn.Dense(self.width, kernel_init=self.end)(h)


class Deep(nn.Module):
    """Dense layers of tanh."""

    depth: int = 30
    width: int = 32
    bias: Any = flaxinit.zeros
    residual: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width, kernel_init=flaxinit.lecun())(x)
        factor = flaxinit.residual_factor(self.depth) if self.residual else 1.0
        init = flaxinit.he("tanh").times(factor)
        for _ in range(self.depth):
            h = jnp.tanh(nn.LayerNorm()(x) if self.residual else x)
            y = nn.Dense(self.width, kernel_init=init, bias_init=self.bias)(h)
            x = x + y if self.residual else y
        return x


IMAGES = jax.random.normal(jax.random.key(0), (4, 6, 6, 16))
TOKENS = jax.random.randint(jax.random.key(0), (4, 8), 0, 100)
VECTORS = jax.random.normal(jax.random.key(0), (16, 32))


def findings(model: nn.Module) -> dict[str, Any]:
    x = {Encoder: TOKENS, Deep: VECTORS}.get(type(model), IMAGES)
    params = flaxinit.fast_init(model.init, progress=False)(jax.random.key(1), x)
    return {each.what: each for each in flaxinit.audit(model.apply, params, x).findings}


def written(finding: Any, argument: str) -> Any:
    """Return what a line gives an argument: the longest that is Python."""
    _, _, text = finding.write.partition(f"{argument}=")
    for end in sorted((m.end() for m in re.finditer(r"[\w)]", text)), reverse=True):
        try:
            return eval(text[:end], {"flaxinit": flaxinit})
        except (SyntaxError, NameError):
            continue
    raise AssertionError(f"{finding.write!r} gives no {argument}.")


@dataclass(frozen=True)
class Case:
    """A sick model.

    Attributes:
        model: that is sick.
        what: the findings that have one remedy.
        line: the field of the model that takes what the line says, and the argument that it is
            for.
        more: other fields, for what the line says in words.
    """

    model: nn.Module
    what: tuple[str, ...]
    line: tuple[str, str] | None = None
    more: tuple[tuple[str, Any], ...] = ()


KERNEL = ("kernel", "kernel_init")
CASES = {
    "gain": Case(Convs(4, kernel=flaxinit.lecun()), ("gain of another activation",), KERNEL),
    "vanishing": Case(
        Convs(20, kernel=flaxinit.lecun()), ("vanishing signal", "vanishing gradient"), KERNEL
    ),
    "exploding": Case(
        Convs(kernel=flaxinit.he().times(3)), ("exploding signal", "exploding gradient"), KERNEL
    ),
    "fan": Case(Convs(odd=flaxinit.he(fan_in=16)), ("wrong fan",), ("odd", "kernel_init")),
    "variance": Case(
        Convs(odd=flaxinit.he().times(4.2)), ("wrong variance",), ("odd", "kernel_init")
    ),
    "equal": Case(Convs(odd=flaxinit.constant(0.1)), ("equal entries",), ("odd", "kernel_init")),
    "saturated": Case(
        Convs(activation=jnp.tanh, kernel=flaxinit.normal(5.0)), ("saturated units",), KERNEL
    ),
    "dead": Case(Convs(bias=flaxinit.constant(-10.0)), ("dead units",), ("bias", "bias_init")),
    "drift": Case(
        Convs(4, bias=flaxinit.constant(100.0), dtype=jnp.bfloat16),
        ("mean drift",),
        more=(("center", True),),  # inputs less their mean
    ),
    "not finite": Case(
        Convs(4, kernel=flaxinit.normal(1e25)),
        ("not finite",),
        more=(("kernel", flaxinit.he()),),  # a smaller variance before this kernel
    ),
    "stream of branches": Case(
        Encoder(embedding=flaxinit.normal(0.01)),
        ("stream of branches",),
        ("embedding", "embedding_init"),
    ),
    "many branches": Case(
        Encoder(12, end=flaxinit.lecun().times(1.6)),
        ("stream of branches",),
        ("end", "kernel_init"),
    ),
    "stream of the start": Case(
        Encoder(embedding=flaxinit.normal(30.0)),
        ("stream of the start",),
        ("embedding", "embedding_init"),
    ),
    "uniform": Case(
        Encoder(query=flaxinit.normal(1e-4)),
        ("uniform attention",),
        more=(("query", flaxinit.lecun()),),  # kernels of queries and keys with lecun()
    ),
    "one-hot": Case(
        Encoder(query=flaxinit.normal(10.0)),
        ("one-hot attention",),
        more=(("query", flaxinit.lecun()),),
    ),
    "tokens": Case(
        Encoder(8, residual=False),
        ("tokens become one",),
        more=(("residual", True),),  # a residual connection, and norms before branches
    ),
    "inputs": Case(
        Deep(bias=flaxinit.constant(1.0)),
        ("inputs become one",),
        more=(("residual", True), ("bias", flaxinit.zeros)),
    ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_what_a_finding_says_to_write_ends_it(name):
    case = CASES[name]
    before = findings(case.model)
    assert set(case.what) <= set(before)
    changes = dict(case.more)
    if case.line:
        field, argument = case.line
        lines = {before[what].write for what in case.what}
        assert len(lines) == 1
        changes[field] = written(before[case.what[0]], argument)
    assert findings(case.model.clone(**changes)) == {}


def test_single_draws_of_a_wider_network_stray_less():
    def found(width):
        x = jnp.ones((4, width))
        model = nn.Sequential([f for _ in range(12) for f in (nn.Dense(width), nn.relu)])
        return {each.what: each.write for each in flaxinit.forecast(model, x).findings}

    assert "wider layers" in found(8)["single draws stray"]
    assert "single draws stray" not in found(256)


@pytest.mark.slow
def test_a_network_without_one_wrong_kernel_is_tuned():
    """A line may be a call: an initialization with the model's own draws, times factors."""
    model = Convs(20, activation=nn.silu, kernel=flaxinit.he("silu"))
    before = findings(model)
    assert "flaxinit.tune" in before["vanishing signal"].write
    scope = {"flaxinit": flaxinit, "model": model, "x": IMAGES}
    exec(before["vanishing signal"].write.partition(",  ")[0].rsplit(", and", 1)[0], scope)
    params = scope["init"](jax.random.key(1), IMAGES)
    assert "vanishing signal" not in {
        each.what for each in flaxinit.audit(model.apply, params, IMAGES).findings
    }
