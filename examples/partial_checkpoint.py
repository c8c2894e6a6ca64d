"""Load a checkpoint into a larger model: only what it lacks is drawn.

    python examples/partial_checkpoint.py

The new model has a head for another task and more tokens than the old one. `fast_init` sees which
arrays come from the checkpoint, so their draws are dropped from the program.
"""

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

import flaxinit
from flaxinit import recipes


class Classifier(nn.Module):
    tokens: int
    labels: int
    head: str

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(self.tokens, 64, name="embed")(tokens)
        for n in range(4):
            x = x + nn.gelu(nn.Dense(64, name=f"block_{n}")(x))
        return nn.Dense(self.labels, kernel_init=flaxinit.lecun(), name=self.head)(x.mean(1))


def completed(fresh: dict, saved: dict, key: jax.Array) -> dict:
    """Return the new parameters with the saved ones in their places."""
    fresh, saved = (flax.traverse_util.flatten_dict(tree) for tree in (fresh, saved))
    merged = fresh | {path: saved[path] for path in fresh.keys() & saved.keys()}

    # New tokens start as likely as the old ones are on average.
    table = saved["params", "embed", "embedding"]
    missing = len(fresh["params", "embed", "embedding"]) - len(table)
    rows = recipes.new_rows(key, table, missing, spread=0.1)
    merged["params", "embed", "embedding"] = jnp.concatenate([table, rows])
    return flax.traverse_util.unflatten_dict(merged)


def main() -> None:
    tokens = jnp.zeros((1, 8), int)
    old = Classifier(tokens=1000, labels=10, head="head")
    checkpoint = old.init(jax.random.key(0), tokens)  # as a checkpointer restores it

    new = Classifier(tokens=1016, labels=3, head="new_head")
    key, reports = jax.random.key(1), []

    def init(key, tokens):
        return completed(new.init(key, tokens), checkpoint, key)

    variables = flaxinit.fast_init(init, report=reports.append)(key, tokens)

    for group in reports[0].groups:
        print(f"drawn: {group.example} {group.shape}")
    block = ("params", "block_0", "kernel")
    old_flat, new_flat = map(flax.traverse_util.flatten_dict, (checkpoint, variables))
    assert np.array_equal(old_flat[block], new_flat[block])
    assert new.apply(variables, tokens).shape == (1, 3)
    assert not any("block" in group.example for group in reports[0].groups)
    print("what the checkpoint has was not drawn")


if __name__ == "__main__":
    main()
