"""The short-time Fourier transform as a convolution."""

import math
from typing import Annotated, Any, Literal

import numpy as np

from flaxinit import sampling
from flaxinit.initializers.base import Deterministic
from flaxinit.initializers.checks import DType


def _checked_name(name: str, value: Any) -> str | None:
    if isinstance(value, str | None):
        return value
    raise TypeError(f"{name} must be a name or None, got {value!r}.")  # a number is Kaiser's beta


class stft(Deterministic):
    """Fill in the kernel whose convolution is one part of a windowed Fourier transform.

    ``w[t, 0, k] = window[t]/s · cos(2πtk/n)`` or ``-window[t]/s · sin(2πtk/n)`` with
    ``n = 2 (bins - 1)``, in a kernel of shape ``(frame, 1, bins)``. Nothing is random.

    Args:
        part: ``"real"`` or ``"imag"``, of the transform.
        window: a name that `scipy.signal.get_window` knows, or None for a rectangle.
        periodic: whether the window is one period of a periodic one, as spectral analysis wants.
        scaling: None for s = 1, ``"density"`` for the window's norm, ``"spectrum"`` for its sum.
        dtype: default dtype if the call gives none.

    Raises:
        TypeError: a window that is not a name.
        ValueError: an unknown part, scaling or window; when called, a shape that is not
            ``(frame, 1, bins)`` with at least two bins.

    >>> stft(window=None)(None, (4, 1, 3))[:, 0, 1].round().astype(int).tolist()
    [1, 0, -1, 0]

    References: Allen, Rabiner (1977), A Unified Approach to Short-Time Fourier Analysis.
    """

    part: Literal["real", "imag"] = "real"
    window: Annotated[str | None, _checked_name] = "hann"
    periodic: bool = False
    scaling: Literal["density", "spectrum"] | None = None
    dtype: DType = None

    def __post_init__(self):
        self._window(8)

    def check_shape(self, shape):
        if len(shape) != 3 or shape[1] != 1 or shape[2] < 2:
            raise ValueError(
                f"stft makes kernels (frame, 1, bins) with two bins or more, got {shape}. For n "
                "points use n // 2 + 1 bins."
            )

    def draw(self, key, shape, dtype, out_sharding):
        frame, _, bins = shape
        # Whole turns are removed while the phase is an integer: as a float it would lose digits.
        turns = np.outer(np.arange(frame), np.arange(bins)) % (2 * (bins - 1))
        wave = np.exp(-1j * math.pi / (bins - 1) * turns)
        values = self._window(frame)[:, None] * (np.real if self.part == "real" else np.imag)(wave)
        dtype = np.dtype(dtype)
        sampling.check_representable(dtype, 0.0, float(np.abs(values).max()))
        values = values.reshape(shape).astype(sampling.real_dtype(dtype))
        return sampling.full(values, shape=shape, dtype=dtype, out_sharding=out_sharding)

    def _window(self, frame: int) -> np.ndarray:
        if self.window is None:
            values = np.ones(frame)
        else:
            from scipy.signal import get_window  # half a second to import

            try:
                values = get_window(self.window, frame, fftbins=self.periodic)
            except ValueError as error:
                raise ValueError(
                    f"window={self.window!r} is not a window that scipy.signal.get_window makes "
                    f"from its name alone: {error}. Use 'hann', 'hamming', 'blackman' or None."
                ) from None
        scale = {None: 1.0, "density": np.linalg.norm(values), "spectrum": np.abs(values).sum()}
        return values / scale[self.scaling]
