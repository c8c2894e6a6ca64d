"""Whether a device draws what the CPU draws: equal random bits, and values equal up to rounding."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import flaxinit
from benchmarks import rounding
from benchmarks.bounds import PARENTS, Rounded, gram_bound, gram_error
from flaxinit import recipes

Device = Any  # type checkers take `jax.Device` for a variable


@dataclasses.dataclass(frozen=True)
class Check:
    """The result of one check.

    Args:
        what: what is checked.
        found: the result, in words.
        share: the measured error over its bound; the check fails if it is above 1.
        detail: the numbers, for the JSON file.
    """

    what: str
    found: str
    share: float
    detail: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return self.share <= 1  # false for NaN


@dataclasses.dataclass(frozen=True)
class Draw:
    """An initializer at a shape.

    Args:
        init: the initializer.
        shape: the shape to draw.
        dtype: the dtype to draw.
        matrix: the shape of its orthogonal matrices, if it draws any.
        scale: the scale of those matrices.
    """

    init: Callable[..., jax.Array]
    shape: tuple[int, ...]
    dtype: str = "float32"
    matrix: tuple[int, int] | None = None
    scale: float = 1.0

    def __call__(self, key: jax.Array) -> jax.Array:
        return self.init(key, self.shape, jnp.dtype(self.dtype))


def draws(n: int) -> dict[str, Draw]:
    """Return a draw of every kind of initializer, with about n inputs and outputs."""
    kernel, complex_ = (n, n + n // 2), "complex64"
    tall = (n + n // 2, n)
    return {
        "normal": Draw(flaxinit.normal(0.02), kernel),
        "truncated_normal": Draw(flaxinit.truncated_normal(0.02), kernel),
        "uniform": Draw(flaxinit.uniform(0.05, minval=-0.05), kernel),
        "he": Draw(flaxinit.he("gelu"), kernel),
        "glorot uniform": Draw(flaxinit.glorot_uniform("tanh"), kernel),
        "lecun normal, complex": Draw(flaxinit.lecun_normal(), kernel, complex_),
        "lecun uniform, complex": Draw(flaxinit.lecun_uniform(), kernel, complex_),
        "lecun, complex": Draw(flaxinit.lecun(), kernel, complex_),
        "siren": Draw(flaxinit.siren(), kernel),
        "sparse": Draw(flaxinit.sparse(0.5), kernel),
        "chrono": Draw(flaxinit.chrono(50), (4 * n,)),
        "forget_bias": Draw(flaxinit.forget_bias(), (4 * n,)),
        "lru_nu": Draw(flaxinit.lru_nu(0.5, 0.9), (n,)),
        "lru_theta": Draw(flaxinit.lru_theta(), (n,)),
        "s4d_lin": Draw(flaxinit.s4d_lin(), (n,), complex_),
        "s4d_inv": Draw(flaxinit.s4d_inv(), (n,), complex_),
        "stft": Draw(flaxinit.stft(), (n, 1, n // 2 + 1)),
        "identity": Draw(flaxinit.identity(), kernel),
        "constant": Draw(flaxinit.constant(0.1), kernel),
        "concatenate": Draw(
            flaxinit.concatenate([flaxinit.he(), flaxinit.he().times(0.1)]), (n, 2 * n)
        ),
        "stack": Draw(flaxinit.stack([flaxinit.normal(1), flaxinit.normal(2)], axis=0), (2, n)),
        "like_kernel": Draw(recipes.like_kernel(flaxinit.he_uniform(), kernel), (n,)),
        "mamba_dt_bias": Draw(recipes.mamba_dt_bias(), (n,)),
        "mamba_a_log": Draw(recipes.mamba_a_log(), (n, 16)),
        "hippo_legs": Draw(recipes.hippo_legs(), (n, n)),
        "s4d_legs": Draw(recipes.s4d_legs(), (n,), complex_),
        "sincos_positions": Draw(recipes.sincos_positions(), (n, n)),
        "spectral_normal": Draw(recipes.spectral_normal(), kernel),
        "icnr": Draw(recipes.icnr(flaxinit.he()), (3, n, 4 * n)),
        "upsample": Draw(recipes.upsample(), (4, n, n)),
        "orthogonal, wide": Draw(flaxinit.orthogonal(), kernel, matrix=kernel),
        "orthogonal, tall": Draw(flaxinit.orthogonal(), tall, matrix=tall),
        "orthogonal, bfloat16": Draw(flaxinit.orthogonal(), kernel, "bfloat16", kernel),
        "orthogonal, complex": Draw(flaxinit.orthogonal(), tall, complex_, tall),
        "semi_orthogonal": Draw(flaxinit.semi_orthogonal(), kernel, matrix=kernel, scale=1.5**0.5),
        "delta_orthogonal": Draw(flaxinit.delta_orthogonal(), (3, *tall), matrix=tall),
        "gated_orthogonal": Draw(flaxinit.gated_orthogonal(4), (n, 4 * n), matrix=(n, n)),
    }


def cpu() -> Device:
    """Return the host's own device."""
    return jax.local_devices(backend="cpu")[0]


def on(device: Device, function: Callable[[jax.Array], Any]) -> Any:
    """Run a function of a key as one program on a device, and return its result for key 0."""
    with jax.default_device(device):
        key = jax.device_put(jax.random.key(0), device)
        return jax.device_get(jax.jit(function)(key))


def compare(name: str, draw: Draw, device: Device) -> Check:
    """Compare the bits and values of one initializer on a device with those on the CPU."""
    host = cpu()

    def bits(key):
        return rounding.random_bits(draw, key)

    words, expected = on(device, bits), on(host, bits)
    drawn = sum(word.size for word in expected)
    alike = [np.array_equal(*pair) for pair in zip(words, expected, strict=True)]
    values, reference = (np.asarray(on(each, draw)) for each in (device, host))
    wide = np.complex128 if np.iscomplexobj(reference) else np.float64
    apart = np.abs(values.astype(wide) - reference.astype(wide))
    if draw.matrix is None:
        limit = on(host, lambda key: rounding.spread(draw, key))
    else:  # each may be as far from the exact product as rounding allows
        limit = 2 * draw.scale * gram_bound(draw.matrix, reference.dtype)
    ulps = apart / _ulp(reference)
    detail = {
        "words": drawn,
        "words_differ": alike.count(False),
        "values": reference.size,
        "ulps_99_percent": float(np.quantile(ulps, 0.99)),
        "ulps_largest": float(ulps.max()),
        "largest_difference": float(apart.max()),
        "share": _largest_share(apart, limit),
    }
    bits_text = f"{drawn:,} words alike" if drawn else "nothing random"
    if not all(alike):
        bits_text = "OTHER RANDOM BITS"
    if draw.matrix is None:
        text = f"{detail['ulps_99_percent']:.0f} ulp, at most {detail['ulps_largest']:.0f}"
    else:
        text = f"within {detail['largest_difference']:.1e}"
    share = detail["share"] if all(alike) else np.inf
    return Check(name, f"{bits_text}; {text if apart.any() else 'equal'}", share, detail)


def orthogonality(name: str, draw: Draw, device: Device) -> Check:
    """Check that a device draws orthonormal rows or columns."""
    assert draw.matrix is not None
    values = np.asarray(on(device, draw))
    shape = draw.matrix
    if values.ndim == 3:  # the kernel of a convolution is a matrix at its center
        values = values[values.shape[0] // 2]
    blocks = np.split(values, values.shape[1] // shape[1], axis=1)
    error = max(gram_error(block, draw.scale) for block in blocks)
    limit = draw.scale**2 * gram_bound(shape, values.dtype)
    return Check(
        f"{name}, {'×'.join(map(str, shape))}",
        f"|WWᴴ - σ²I| ≤ {error:.1e}",
        error / limit,
        {"error": error, "limit": limit},
    )


def low_precision(device: Device) -> Iterator[tuple[str, str | None]]:
    """Yield each signed floating dtype below 32 bits, and the device's refusal or None."""
    for name in sorted(vars(jnp)):
        if not name.startswith(("bfloat16", "float16", "float8")) or name == "float8_e8m0fnu":
            continue
        try:
            on(device, lambda key, name=name: jnp.ones(8).astype(name))
        except Exception as error:  # each backend raises its own kind, from plain JAX
            yield name, str(error).splitlines()[0]
        else:
            yield name, None


def moments(dtype: str, device: Device, count: int, cases: int) -> Check:
    """Check moments, distribution and extremes of unit-variance draws in a narrow dtype."""
    shares: dict[str, float] = {}
    rows = 256
    for distribution, parent in PARENTS.items():
        init = flaxinit.variance_scaling(float(rows), "fan_in", distribution)
        draw = Draw(init, (rows, count // rows), dtype)
        sample = np.asarray(on(device, draw)).ravel()
        found = Rounded(parent, 1.0, dtype).shares(sample, cases)
        shares |= {f"{distribution}, {name}": share for name, share in found.items()}
    worst = max(shares, key=lambda name: shares[name])
    found = f"{len(shares)} statistics; farthest: {worst}"
    return Check(dtype, found, shares[worst], shares)


def _ulp(values: np.ndarray) -> np.ndarray:
    """Return the unit in the last place of each value's modulus, in its dtype."""
    sizes = np.abs(values)
    info = jnp.finfo(sizes.dtype)
    _, exponents = np.frexp(np.maximum(sizes.astype(np.float64), float(info.tiny)))
    return np.ldexp(float(info.eps), exponents - 1)


def _largest_share(apart: np.ndarray, limit: np.ndarray | float) -> float:
    """Return the largest quotient, with 0 / 0 = 0."""
    limit = np.broadcast_to(limit, apart.shape)
    return float(np.max(np.divide(apart, limit, out=np.zeros_like(apart), where=apart != 0)))
