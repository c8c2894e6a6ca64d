"""mup(..., depth=True): blocks that are repeated more often than in the base."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flaxinit
from derivations.theorems import width
from flaxinit.width.coordinates import coordinate
from tests.width_models import FEATURES, NORMAL, SEQUENCES

M, TIMES = 2, 4  # growth of the width and of the number of blocks
E = TIMES**-0.5


class Block(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x, _=None):
        y = nn.relu(nn.Dense(2 * self.width, name="in", kernel_init=NORMAL)(nn.LayerNorm()(x)))
        return x + nn.Dense(self.width, name="out", kernel_init=NORMAL)(y), None


class Net(nn.Module):
    width: int
    depth: int
    form: str = "numbered"

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width, name="first", kernel_init=NORMAL)(x)
        block = nn.remat(Block) if "remat" in self.form else Block
        if "scanned" in self.form:
            options = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
            x, _ = nn.scan(block, length=self.depth, **options)(self.width, name="blocks")(x, None)
        for n in range(0 if "scanned" in self.form else self.depth):
            if "attention" in self.form:
                y = nn.LayerNorm(name=f"norm{n}")(x)
                attention = nn.MultiHeadDotProductAttention(
                    self.width // 8, kernel_init=NORMAL, name=f"attention{n}"
                )
                x = x + attention(y, y)
            x, _ = block(self.width, name=f"blocks{n}")(x)
        if "bare" not in self.form:
            x = nn.LayerNorm(name="end")(x)
        return nn.Dense(10, name="last", kernel_init=NORMAL)(x)


def table(optimizer, form, base=3, **options):
    inputs = SEQUENCES if "attention" in form else FEATURES
    scale = flaxinit.mup(
        Net(16 * M, base * TIMES, form),
        inputs,
        base=Net(16, base, form),
        optimizer=optimizer,
        depth=True,
        **options,
    )
    return {row.path: row for row in scale.rows}, scale.remarks


FORMS = ["numbered", "scanned", "numbered, remat", "scanned, remat", "attention", "numbered, bare"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("base", [1, 3])
def test_branches_have_the_factors_of_their_place(form, base):
    """Whatever the form of the repetition, and with a base of a single block too."""
    (adam, remarks), (sgd, _) = (table(optimizer, form, base) for optimizer in ("adam", "sgd"))
    assert not remarks and len(adam) > 5
    for path, row in adam.items():
        last = re.search(r"/out/", path)
        inside = re.search(r"blocks|attention|norm\d", path)
        depth = (E, E**2, E**2, 1) if last else (1, E, 1, E) if inside else (1, 1, 1, 1)
        deviation, one, other, gradient = depth
        if "bias" in path or "scale" in path or "first" in path:
            kernel, rates, slope = 1, (1, M), 1 / M
        elif "last" in path:
            kernel, rates, slope = 1 / M, (1 / M, 1 / M), 1
        else:
            kernel, rates, slope = M**-0.5, (1 / M, 1), 1 / M
        if path == "params/last/bias":
            rates, slope = (1, 1), 1
        assert (row.rate, sgd[path].rate) == (rates[0] * one, rates[1] * other), path
        assert row.epsilon == slope * gradient, path
        drawn = "kernel" in path
        assert row.init == pytest.approx(kernel * deviation if drawn else 1), path


def test_the_book_derives_the_factors():
    """Deviation, Adam, SGD, Muon of the last kernel of a branch, and of those before it."""
    for kind, powers in width.BRANCH.items():
        found = {}
        for optimizer in ("adam", "sgd", "muon"):
            rows, _ = table(optimizer, "numbered, bare")
            plain = flaxinit.mup(
                Net(16 * M, 3, "bare"), FEATURES, base=Net(16, 3, "bare"), optimizer=optimizer
            )
            path = f"params/blocks0/{'out' if kind == 'last' else 'in'}/kernel"
            (other,) = [row for row in plain.rows if row.path == path]
            found["deviation"] = rows[path].init / other.init
            found[optimizer] = rows[path].rate / other.rate
        wanted = [float(TIMES**power) for power in powers]
        assert [found[n] for n in ("deviation", "adam", "sgd", "muon")] == pytest.approx(wanted)


def test_a_factor_in_the_model_is_made_up_for():
    """With 1/√L in front of each branch the rates alone change, as in depth-μP."""

    class Divided(nn.Module):
        depth: int

        @nn.compact
        def __call__(self, x):
            x = nn.Dense(16, kernel_init=NORMAL, name="first")(x)
            for n in range(self.depth):
                y = nn.relu(nn.Dense(16, kernel_init=NORMAL, name=f"in{n}")(x))
                y = nn.Dense(16, kernel_init=NORMAL, name=f"out{n}")(y)
                x = x + y * np.float32(self.depth**-0.5)
            return nn.Dense(3, name="last")(x)

    scale = flaxinit.mup(Divided(16), FEATURES, base=Divided(4), depth=True)
    rows = {row.path: (row.init, row.rate) for row in scale.rows}
    for n in range(16):
        assert rows[f"params/in{n}/kernel"] == rows[f"params/out{n}/kernel"] == (1, E)
    sgd = flaxinit.mup(Divided(16), FEATURES, base=Divided(4), depth=True, optimizer="sgd")
    assert {row.rate for row in sgd.rows} == {1}


def test_two_branches_of_one_stream_are_two():
    def net(depth):
        class Parallel(nn.Module):
            @nn.compact
            def __call__(self, x):
                x = nn.Dense(16, name="first")(x)
                for n in range(depth):
                    y = nn.LayerNorm(name=f"norm{n}")(x)
                    one = nn.Dense(16, name=f"out{n}a")(nn.relu(nn.Dense(16, name=f"in{n}a")(x)))
                    x = x + one + nn.Dense(16, name=f"out{n}b")(nn.relu(y))
                return nn.Dense(3, name="last")(x)

        return Parallel()

    rows = flaxinit.mup(net(8), FEATURES, base=net(2), depth=True).rows
    for row in rows:
        rate = E**2 if "out" in row.path else E if re.search(r"in\d|norm", row.path) else 1
        assert row.rate == rate, row.path


@pytest.mark.parametrize("form", ["sequential", "parallel", "scanned", "jitted"])
def test_rows_of_a_table_are_a_stream(form):
    def branches(params, x):
        norm = lambda x: x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)
        if form == "parallel":
            return x + norm(x) @ params["a"] + jnp.tanh(norm(x) @ params["b"]) @ params["c"]
        x = x + norm(x) @ params["a"]
        return x + jnp.tanh(norm(x) @ params["b"]) @ params["c"]

    def make(depth, width=16):
        def init(key, tokens):
            table, *keys = jax.random.split(key, 4)
            shape = (depth, width, width)
            kernels = {n: jax.random.normal(k, shape) for n, k in zip("abc", keys, strict=True)}
            if form != "scanned":
                kernels = [{n: w[layer] for n, w in kernels.items()} for layer in range(depth)]
            return {"table": jax.random.normal(table, (9, width)), "blocks": kernels}

        def apply(params, tokens):
            x = params["table"][tokens]
            if form == "scanned":
                step = lambda x, block: (branches(block, x), None)
                return jax.lax.scan(step, x, params["blocks"])[0]
            for block in params["blocks"]:
                x = branches(block, x)
            return x

        return init, jax.jit(apply) if form == "jitted" else apply

    scale = flaxinit.mup(make(8), jax.ShapeDtypeStruct((2, 5), "int32"), base=make(2), depth=True)
    for row in scale.rows:
        last = row.path[-1] in "ac"
        assert row.rate == (1 if row.path == "table" else E**2 if last else E), row.path
        assert row.init == (E if last and row.path != "table" else 1), row.path


class Language(nn.Module):
    """The stream is rows of a table, and a norm is the first to read them."""

    width: int
    depth: int
    form: str

    @nn.compact
    def __call__(self, tokens):
        table = nn.Embed(100, self.width, name="table", embedding_init=NORMAL)
        x = table(tokens)
        for n in range(self.depth):
            y = nn.LayerNorm(name=f"norm{n}")(x)
            if self.form == "attention":
                heads = self.width // 8
                y = nn.MultiHeadDotProductAttention(heads, kernel_init=NORMAL, name=f"out{n}")(y, y)
            else:
                y = nn.Dense(self.width, kernel_init=NORMAL, name=f"out{n}")(y)
            x = x + y
        return table.attend(x) if self.form == "tied" else nn.Dense(10, name="last")(x)


@pytest.mark.parametrize("form", ["product", "attention", "tied"])
@pytest.mark.parametrize("base", [1, 3])
def test_the_lookups_of_a_norm_are_no_branch(form, base):
    tokens = jax.ShapeDtypeStruct((4, 8), "int32")
    model, small = (Language(16 * m, base * n, form) for m, n in ((M, TIMES), (1, 1)))
    rows = flaxinit.mup(model, tokens, base=small, depth=True).rows
    for row in rows:
        last = re.search(r"out\d+/(out/)?(kernel|bias)", row.path)
        rate = E**2 if last else E if re.search(r"norm|out", row.path) else 1
        sums = "kernel" in row.path
        assert row.rate == pytest.approx(rate / M if sums else rate), row.path
        if "table" in row.path:
            assert (row.kind, row.init) == ("input", 1)


class Odd(nn.Module):
    depth: int
    form: str

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(16, name="first")(x)
        shared = nn.Dense(16, name="shared")
        for n in range(self.depth):
            if self.form == "plain":
                x = nn.relu(nn.Dense(16, name=f"d{n}")(x))
            elif self.form == "norm behind":
                x = nn.LayerNorm(name=f"norm{n}")(x + nn.Dense(16, name=f"d{n}")(nn.relu(x)))
            elif self.form == "shared":
                x = x + shared(nn.relu(x))
            elif self.form == "nested":
                y = x + nn.Dense(16, name=f"d{n}")(nn.relu(x))
                x = x + nn.Dense(16, name=f"e{n}")(nn.relu(y))
            elif self.form == "bent":
                x = x + nn.relu(nn.Dense(16, name=f"d{n}")(x))
        return nn.Dense(3, name="last")(x)


@pytest.mark.parametrize(
    ("form", "match"),
    [
        ("plain", "add nothing to a stream"),
        ("norm behind", "norm1/bias.* in a repeated block and in no branch"),
        ("shared", "shared/bias.* in several branches"),
        ("nested", "in a branch of a branch"),
    ],
)
def test_what_the_rule_does_not_cover_is_refused(form, match):
    with pytest.raises(ValueError, match=match):
        flaxinit.mup(Odd(8, form), FEATURES, base=Odd(2, form), depth=True)


def test_other_differences_are_refused():
    with pytest.raises(ValueError, match="No parameter of the base is used as"):
        flaxinit.mup(Net(32, 4), FEATURES, base=Net(32, 2, "scanned"), depth=True)
    with pytest.raises(ValueError, match="or repeated blocks too with depth=True"):
        flaxinit.mup(Net(32, 4), FEATURES, base=Net(32, 2))
    with pytest.raises(ValueError, match="a loop has 2 steps at the base width and 4"):
        flaxinit.mup(Net(32, 4, "scanned"), FEATURES, base=Net(32, 2, "scanned"))
    with pytest.raises(ValueError, match="128 operations at the base width, 76 at the other"):
        flaxinit.mup(Net(32, 2), FEATURES, base=Net(32, 4), depth=True)


def test_a_loop_of_blocks_with_one_kernel_is_refused():
    def make(depth):
        def init(key, x):
            return {"w": jax.random.normal(key, (8, 8))}

        def apply(params, x):
            step = lambda x, _: (x + jnp.tanh(x) @ params["w"], None)
            return jax.lax.scan(step, x, length=depth)[0]

        return init, apply

    with pytest.raises(ValueError, match="w serves every block"):
        flaxinit.mup(make(8), FEATURES, base=make(2), depth=True)


def test_a_branch_that_ends_with_a_function_is_left_to_the_model():
    remarks = flaxinit.mup(Odd(8, "bent"), FEATURES, base=Odd(2, "bent"), depth=True).remarks
    assert len(remarks) == 8 and all("multiply what it makes by 0.5" in text for text in remarks)


def test_the_same_depth_changes_nothing():
    for form in FORMS[:2]:
        both = [
            flaxinit.mup(Net(32, 3, form), FEATURES, base=Net(16, 3, form), depth=deep).rows
            for deep in (False, True)
        ]
        assert both[0] == both[1]


def stream(width, depth, deep, key):
    """By how much three steps of Adam change the stream behind all blocks."""
    x = jax.random.normal(jax.random.key(5), (16, 8))
    wanted = jax.random.normal(jax.random.key(6), (16, width))

    def init(key, x):
        keys = jax.random.split(key, 3)
        shapes = {"first": (8, width), "in": (depth, width, width), "out": (depth, width, width)}
        return {
            name: jax.random.normal(key, shape) / np.sqrt(shape[-2]).astype(np.float32)
            for key, (name, shape) in zip(keys, shapes.items(), strict=True)
        }

    def apply(params, x):
        def block(x, w):
            normed = x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True))
            return x + jax.nn.relu(normed @ w[0]) @ w[1], None

        return jax.lax.scan(block, x @ params["first"], (params["in"], params["out"]))[0]

    def shallow(key, x):
        return jax.tree.map(lambda w: w[:4] if w.ndim == 3 else w, init(key, x))

    scale = flaxinit.mup((init, apply), x, base=(shallow, apply), depth=True)
    start = scale.init(init) if deep else init
    optimizer = scale.optimizer(optax.adam, 1e-3) if deep else optax.adam(1e-3)

    def loss(params):
        return jnp.mean((apply(params, x) - wanted) ** 2)

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    before = start(key, x)
    (after, _), _ = jax.lax.scan(step, (before, optimizer.init(before)), length=3)
    return jnp.sqrt(jnp.mean((apply(after, x) - apply(before, x)) ** 2))


@pytest.mark.parametrize("deep", [True, False])
def test_the_stream_changes_as_much_at_every_depth(deep):
    """And more at larger depth without: the negative control."""
    depths, keys = (4, 16, 64), jax.random.split(jax.random.key(0), 6)
    with jax.numpy_dtype_promotion("standard"):
        changes = [
            jax.lax.map(jax.jit(lambda key, depth=depth: stream(32, depth, deep, key)), keys)
            for depth in depths
        ]
    found = coordinate("stream", 3, depths, np.stack(changes, 1), np.stack(changes, 1), 0.1)
    assert found.finding == ("steady" if deep else "grows"), found
