"""Attention whose products of weights look like those of trained networks."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from flaxinit import sampling
from flaxinit.initializers.base import Value, declared
from flaxinit.initializers.checks import DType, check_divides, check_key, checked_count, drawn_dtype


class AttentionKernels(NamedTuple):
    """Kernels of an attention layer, named and shaped as Flax's; h heads of k of d features."""

    query: Inexact[Array, "d h k"]  # noqa: F722
    key: Inexact[Array, "d h k"]  # noqa: F722
    value: Inexact[Array, "d h k"]  # noqa: F722
    out: Inexact[Array, "h k d"]  # noqa: F722


@declared
class mimetic(Value):
    """Draw the four kernels of self-attention together, as factors of two kinds of products.

    The entries of Z are independent ``N(0, 1/d)``, and each product has its own Z::

        W_value W_out  =  value_noise Z + value_identity I     over all heads
        W_query W_keyᵀ =  query_noise Z + query_identity I     in each head, its best rank k

    With the singular value decomposition ``U Σ Vᵀ`` of a product, its factors are ``U √Σ`` and
    ``√Σ Vᵀ``; in a head only the k largest singular values are kept. So queries and keys agree and
    values are subtracted from the stream, as in trained vision transformers. Over all singular
    values of a product the mean square is ``noise² + identity²``.

    Flax draws each kernel from a key of its own, but these kernels share their draws. So put them
    into the parameters of a layer that is already initialized.

    Args:
        query_noise: standard deviation of the noise in queries times keys, in units of 1/√d.
        query_identity: weight of the identity there.
        value_noise: standard deviation of the noise in values times outputs, in units of 1/√d.
        value_identity: weight of the identity there; negative in vision, positive in language
            models.
        dtype: default dtype if the call gives none; real.

    Raises:
        ValueError: a number that is not finite; when called, heads that do not divide features, a
            complex dtype, a layout in unequal parts.

    >>> kernels = mimetic()(jax.random.key(0), features=8, heads=2)
    >>> kernels.query.shape, kernels.out.shape
    ((8, 2, 4), (2, 4, 8))

    References: Trockman, Kolter (2023), Mimetic Initialization of Self-Attention Layers.
    """

    # The defaults are those of the published experiments on vision transformers.
    query_noise: float = 0.7
    query_identity: float = 0.7
    value_noise: float = 0.4
    value_identity: float = -0.4
    dtype: DType = None

    def __call__(
        self,
        key,
        features: int,
        heads: int,
        dtype: Any = None,
        out_sharding: AttentionKernels | None = None,
    ) -> AttentionKernels:
        """Draw the kernels.

        Args:
            key: a typed key or a legacy uint32 one.
            features: d, of the stream and of all heads together.
            heads: h, a divisor of d.
            dtype: default the initializer's own, else JAX's default float.
            out_sharding: a sharding for each kernel. Queries and keys of a head are factorized on
                the devices that hold it; values and outputs, which span all heads, on all devices.

        Returns:
            The kernels; each goes to ``params[name]["kernel"]`` of Flax's layer by its name.
        """
        dtype = drawn_dtype(self.dtype if dtype is None else dtype)
        if jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(f"mimetic draws real kernels, got {dtype.name}.")
        features, heads = checked_count("features", features), checked_count("heads", heads)
        if features % heads:
            raise ValueError(
                f"features must be a multiple of heads, got features={features}, heads={heads}."
            )
        check_key(key)
        if out_sharding is not None:
            out_sharding = _one_each(out_sharding, features, heads)
        with sampling.mesh_context(out_sharding):
            return _kernels(
                key,
                (self.query_noise, self.query_identity),
                (self.value_noise, self.value_identity),
                features=features,
                heads=heads,
                dtype=dtype,
                out_sharding=out_sharding,
            )


def _one_each(out_sharding, features: int, heads: int) -> AttentionKernels:
    if type(out_sharding) not in (AttentionKernels, tuple, list) or len(out_sharding) != 4:
        raise TypeError(
            "mimetic's out_sharding is one sharding for each of query, key, value and out, got "
            f"{out_sharding!r}."
        )
    shapes = [(features, heads, features // heads)] * 3 + [(heads, features // heads, features)]
    for shape, sharding in zip(shapes, out_sharding, strict=True):
        check_divides(shape, sharding)
    return AttentionKernels(*out_sharding)


@sampling.program
def _kernels(key, query, value, *, features, heads, dtype):
    compute, width = sampling.compute_dtype(dtype), features // heads

    def product(key, weights):
        noise, identity = (jnp.asarray(w, compute) for w in weights)
        z = jax.random.normal(key, (features, features), compute)
        scale = jnp.asarray(features**-0.5, compute)
        return noise * scale * z + identity * jnp.eye(features, dtype=compute)

    def head(key):
        left, right = _factors(product(key, query))
        return left[:, :width], right[:width].T

    query_key, value_key = jax.random.split(key)
    q, k = jax.vmap(head, out_axes=1)(jax.random.split(query_key, heads))
    v, out = _factors(product(value_key, value))
    kernels = q, k, v.reshape(features, heads, width), out.reshape(heads, width, features)
    return AttentionKernels(*(kernel.astype(dtype) for kernel in kernels))


def _factors(matrix):
    """Return ``U √Σ`` and ``√Σ Vᵀ`` with singular values in descending order."""
    u, values, vt = jnp.linalg.svd(matrix)
    root = jnp.sqrt(values)
    return u * root[None], root[:, None] * vt
