"""Find a kernel that was drawn with the wrong fan.

    python examples/audit_wrong_fan.py

A kernel of attention, (inputs, heads, features), looks like that of a convolution: read so, its
fan_in counts the heads too, and the signal comes out too small. `audit` measures it.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import rich

import flaxinit


class Heads(nn.Module):
    """Eight projections of a stream, in one kernel."""

    kernel_init: flaxinit.Initializer

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], 8, 32))
        return jnp.einsum("bd,dhk->bhk", x, kernel)


def main() -> None:
    x = jax.random.normal(jax.random.key(0), (64, 256))
    for kernel_init in (flaxinit.lecun(), flaxinit.lecun(in_axis=0, out_axis=(1, 2))):
        model = Heads(kernel_init)
        report = flaxinit.audit(model.apply, model.init(jax.random.key(1), x), x)
        rich.print(kernel_init, report)
        print(f"fan_in · Var W = {report.layers[0].sigma_w2:.3f}, and 1 keeps the signal\n")


if __name__ == "__main__":
    main()
