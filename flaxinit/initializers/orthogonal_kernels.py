"""Orthogonal kernels: all singular values are equal."""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from flaxinit import sampling
from flaxinit.fans import axis_set, checked_shape
from flaxinit.initializers.base import Initializer
from flaxinit.initializers.checks import Axis, AxisSet, Count, DType, checked_axes
from flaxinit.initializers.haar import orthonormal
from flaxinit.versions.threefry import typed


class orthogonal(Initializer):
    """Draw a uniformly distributed matrix with orthonormal rows or columns.

    The array is read as a matrix, ``column_axis`` its columns and all other axes its rows. With
    fewer columns than rows ``WᴴW = scale² I``, with more ``WWᴴ = scale² I``: all singular values
    are ``scale``. An entry has mean 0 and variance ``scale²/max(rows, columns)``. Values of low
    precision are computed in float32 and rounded once; complex arrays are unitary. On a mesh each
    device makes only the matrices or rows that it will hold, however the layout is stated. A jitted
    function that draws them on several devices must use a single mesh and cannot be exported.

    Args:
        scale: the singular values, finite; `flaxinit.gain` of an activation keeps the signal.
        column_axis: the axis of the columns.
        dtype: default dtype if the call gives none.
        batch_axis: axis or axes of independent matrices (experts, heads, gates).

    Raises:
        ValueError: a scale that is not finite, a dtype that is not floating; when called, a
            shape with fewer than two axes besides the batch.

    >>> orthogonal().variance((64, 16))
    0.015625

    References: Saxe, McClelland, Ganguli (2014); Stewart (1980).
    """

    scale: float = 1.0
    column_axis: Axis = -1
    dtype: DType = None
    _: dataclasses.KW_ONLY
    batch_axis: AxisSet = ()
    scales = ("scale",)

    def check_shape(self, shape):
        self._matrix(shape)

    def _variance(self, shape):
        _, rows, columns = self._matrix(shape)
        return self.singular_value(shape) ** 2 / max(rows, columns)

    def with_axes(self, in_axis, out_axis):
        """Return the same with its columns along the one axis of outputs, or else of inputs."""
        ins, outs = checked_axes("in_axis", in_axis), checked_axes("out_axis", out_axis)
        column = outs if isinstance(outs, int) else ins
        if not isinstance(column, int):
            raise ValueError(
                f"{self!r} has its columns along one axis, and neither in_axis={in_axis} nor "
                f"out_axis={out_axis} is one. Draw a matrix and reshape it."
            )
        return dataclasses.replace(self, column_axis=column)

    def singular_value(self, shape: Sequence[int]) -> float:
        """Return the value of all singular values of a kernel of this shape."""
        return abs(self.scale) * self._unit(shape)

    def _unit(self, shape: Sequence[int]) -> float:
        """Return the singular values at scale 1."""
        return 1.0

    def draw(self, key, shape, dtype, out_sharding, kernel_shape=None):
        """Make the values; `kernel_shape` is the shape of the kernel that they become part of."""
        batch, _, _ = self._matrix(shape)
        value = self.scale * self._unit(shape)
        sampling.check_representable(dtype, self.std(shape), abs(value))
        return _draw(
            key,
            sampling.real(dtype, value),
            shape=shape,
            kernel_shape=shape if kernel_shape is None else kernel_shape,
            dtype=dtype,
            batch=batch,
            column=self.column_axis % len(shape),
            out_sharding=out_sharding,
        )

    def _matrix(self, shape: Sequence[int]) -> tuple[tuple[int, ...], int, int]:
        """Return batch axes, rows and columns of the matrices in an array of this shape."""
        shape = checked_shape(shape)
        batch = axis_set("batch_axis", self.batch_axis, shape)
        (column,) = axis_set("column_axis", self.column_axis, shape)
        if column in batch or len(shape) - len(batch) < 2:
            raise ValueError(
                f"{self!r} needs two axes besides batch_axis, one of them column_axis, but the "
                f"shape is {shape}. For a bias use flaxinit.zeros."
            )
        rows = math.prod(n for axis, n in enumerate(shape) if axis not in batch | {column})
        return tuple(sorted(batch)), rows, shape[column]


class semi_orthogonal(orthogonal):
    """Draw an orthogonal matrix whose singular values are ``scale · √(columns/rows)``.

    If columns are outputs and rows are inputs, weights and updates with this spectral norm keep
    the size of features at every width. It fits Muon, whose updates have equal singular values too.
    Arguments and errors are those of `orthogonal`.

    >>> semi_orthogonal().singular_value((64, 256))
    2.0

    References: Yang, Simon, Bernstein (2023), A Spectral Condition for Feature Learning.
    """

    def with_axes(self, in_axis, out_axis):
        """Return the same initializer with its columns along the axis of outputs."""
        return dataclasses.replace(self, column_axis=out_axis)

    def _unit(self, shape: Sequence[int]) -> float:
        _, rows, columns = self._matrix(shape)
        return math.sqrt(columns / max(rows, 1))


class gated_orthogonal(Initializer):
    """Draw independent orthogonal matrices side by side, one for each gate of a recurrent cell.

    A kernel ``(inputs, gates · units)`` is ``[Q_1 ... Q_g]``, each with all singular values
    ``scale``. An orthogonal matrix of the whole shape would tie the gates to each other and, with
    ``inputs = units = n``, draw its entries with variance ``1/(g n)`` instead of ``1/n``. Complex
    blocks are unitary.

    Args:
        gates: number of blocks in the last axis; an LSTM has 4, a GRU 3.
        scale: the singular values of each block, finite.
        dtype: default dtype if the call gives none.

    Raises:
        ValueError: a number of gates that is not a positive integer; when called, a shape that is
            not ``(inputs, gates · units)``.

    >>> gated_orthogonal(4).variance((64, 256))
    0.015625

    References: Saxe, McClelland, Ganguli (2014); Arjovsky, Shah, Bengio (2016).
    """

    gates: Count = 4
    scale: float = 1.0
    dtype: DType = None
    scales = ("scale",)

    def check_shape(self, shape):
        self._blocks(shape)

    def _variance(self, shape):
        return self._block()._variance(self._blocks(shape))

    def draw(self, key, shape, dtype, out_sharding):
        return self._block().draw(key, self._blocks(shape), dtype, out_sharding, shape)

    def _block(self) -> orthogonal:
        return orthogonal(self.scale, batch_axis=-2)

    def _blocks(self, shape: Sequence[int]) -> tuple[int, int, int]:
        if len(shape) != 2 or shape[1] % self.gates:
            raise ValueError(
                f"{self!r} needs a kernel (inputs, gates · units), but the shape is {tuple(shape)}."
            )
        return shape[0], self.gates, shape[1] // self.gates


class delta_orthogonal(Initializer):
    """Draw a convolution that is an orthogonal matrix at its center and zero elsewhere.

    A kernel ``(spatial..., in, out)`` maps every pixel by the same matrix, ``W[center] = scale Q``.
    If in <= out, ``QQᴴ = I`` and a circular convolution keeps norms exactly. If in > out, which
    ``jax.nn.initializers`` refuses, ``QᴴQ = I``: the matrix projects to out dimensions and keeps
    the norms of gradients instead. The center of k positions is ``(k - 1) // 2``, as in JAX. The
    variance is that of an entry at a random position.

    Args:
        scale: the singular values of the matrix, finite.
        column_axis: which of the last two axes holds its columns; -1 or -2.
        dtype: default dtype if the call gives none.

    Raises:
        ValueError: when called, a shape without one to three spatial axes.

    >>> delta_orthogonal().variance((3, 3, 4, 4))
    0.027777777777777776

    References: Xiao, Bahri, Sohl-Dickstein, Schoenholz, Pennington (2018).
    """

    scale: float = 1.0
    column_axis: Axis = -1
    dtype: DType = None
    scales = ("scale",)

    def __post_init__(self):
        if self.column_axis not in (-1, -2):
            raise ValueError(
                f"column_axis must be -1 or -2, the channels of the kernel; got {self.column_axis}."
            )

    def check_shape(self, shape):
        self._matrix(shape)

    def _variance(self, shape):
        return self._matrix(shape)._variance(shape[-2:]) / math.prod(shape[:-2])

    def draw(self, key, shape, dtype, out_sharding):
        return self._matrix(shape).draw(key, shape[-2:], dtype, out_sharding, shape)

    def _matrix(self, shape: Sequence[int]) -> orthogonal:
        if len(shape) not in (3, 4, 5):
            raise ValueError(
                f"delta_orthogonal needs a kernel (spatial..., in, out) with one to three spatial "
                f"axes, but the shape is {tuple(shape)}. For a dense kernel use "
                "flaxinit.orthogonal."
            )
        return orthogonal(self.scale, self.column_axis)


def centered(matrix: Array, shape: tuple[int, ...]) -> Array:
    """Return a kernel that is `matrix` at its spatial center and zero elsewhere."""
    around = [((size - 1) // 2, size // 2) for size in shape[:-2]]
    return jnp.pad(jnp.expand_dims(matrix, range(len(around))), [*around, (0, 0), (0, 0)])


@sampling.program
def _draw(key, value, *, shape, kernel_shape, dtype, batch, column):
    rest = tuple(axis for axis in range(len(shape)) if axis not in (*batch, column))
    order = (*batch, *rest, column)
    rows, columns = math.prod(shape[axis] for axis in rest), shape[column]
    compute = sampling.compute_dtype(dtype)
    key, count = typed(key), math.prod(shape[axis] for axis in batch)
    keys = jax.random.split(key, count) if batch else key[None]
    q = orthonormal(keys, rows, columns, compute)
    q = (q * value.astype(compute)).astype(dtype)
    q = q.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))
    # Gates fill the kernel side by side; the matrix of a convolution fills only its center.
    whole = math.prod(kernel_shape) == q.size
    return q.reshape(kernel_shape) if whole else centered(q, kernel_shape)
