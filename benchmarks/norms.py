"""What LayerNorm leaves to the initialization: two transformers of 24 blocks, forecast.

    python -m benchmarks.norms [--width 128] [--blocks 24]

Every kernel has its derived gain times a factor. The table has the second moment of the residual
stream and the queries' gradient, of the first and the last block, and the correlation of two
positions at the end. No parameter is drawn.
"""

import argparse

import flax.linen as nn
import jax

import flaxinit

FACTORS = (1.0, 0.25, 4.0)
VOCABULARY, SAMPLES, PLACES = 100, 4, 16


class Transformer(nn.Module):
    """Attention and GELU, with a norm before each branch or after each sum."""

    width: int
    blocks: int
    factor: float
    before: bool

    @nn.compact
    def __call__(self, tokens):
        plain = self.factor * flaxinit.lecun()
        after_gelu = self.factor * flaxinit.he("gelu_tanh")

        def attention(x):
            return nn.MultiHeadDotProductAttention(4, kernel_init=plain, out_kernel_init=plain)(x)

        def mlp(x):
            h = nn.gelu(nn.Dense(4 * self.width, kernel_init=plain)(x))
            return nn.Dense(self.width, kernel_init=after_gelu)(h)

        x = nn.Embed(VOCABULARY, self.width, embedding_init=flaxinit.normal(1.0))(tokens)
        for branch in [attention, mlp] * self.blocks:
            x = x + branch(nn.LayerNorm()(x)) if self.before else nn.LayerNorm()(x + branch(x))
        return nn.Dense(VOCABULARY)(nn.LayerNorm()(x) if self.before else x)


def row(name: str, model: nn.Module, tokens: jax.Array) -> str:
    """Return one line of the table."""
    report = flaxinit.forecast(model, tokens, backward=True)
    queries = [layer.gradient_parameter for layer in report.layers if "query" in layer.path]
    first, last = report.stream[0], report.stream[-1]
    return (
        f"{name:14} stream {first.second_moment:9.4g} to {last.second_moment:9.4g}, positions "
        f"{last.positions:.6f}, queries' E[dW²] {queries[0]:8.2g} to {queries[-1]:8.2g}"
    )


def main() -> None:
    """Forecast both at each factor."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=24)
    options = parser.parse_args()
    tokens = jax.random.randint(jax.random.key(0), (SAMPLES, PLACES), 0, VOCABULARY)
    for before in (True, False):
        for factor in FACTORS:
            model = Transformer(options.width, options.blocks, factor, before)
            name = f"{'pre' if before else 'post'}-LN × {factor:g}"
            print(row(name, model, tokens), flush=True)


if __name__ == "__main__":
    main()
