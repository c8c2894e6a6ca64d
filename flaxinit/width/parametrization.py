"""Factors on the draws and learning rates of a model of another width."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from flaxinit.signal.reports.printed import Printed
from flaxinit.trees.factors import known, multiplied, scaled_init
from flaxinit.versions.compat import require
from flaxinit.width.analysis import Parameter
from flaxinit.width.decay import decaying, without_decay
from flaxinit.width.once import once
from flaxinit.width.optimizers import check_family, deviation, muon_axes, rate
from flaxinit.width.table import Row, table
from flaxinit.width.values import product


@dataclass(frozen=True, repr=False)
class Parametrization(Printed):
    """The factors that keep a model's training the same as that of its narrow base.

    Attributes:
        rows: one for each parameter.
        remarks: what factors on draws and rates cannot do, and what to write in the model.
        family: of optimizers that the rates are for.
        parameters: what was found of each.
        tree: the structure of the parameters.
    """

    rows: tuple[Row, ...]
    remarks: tuple[str, ...]
    family: str
    parameters: tuple[Parameter, ...]
    tree: Any

    @property
    def multipliers(self) -> Any:
        """The factor on each learning rate, in a tree like the parameters."""
        return jax.tree.unflatten(self.tree, [row.rate for row in self.rows])

    def init(self, init_fn: Callable) -> Callable:
        """Return the initialization with each draw multiplied by its factor.

        Args:
            init_fn: what initializes the model: Linen's ``model.init``, or a function that returns
                parameters, an NNX module or its state. It need not be the one that was analyzed.

        Returns:
            A function of the same arguments. It can be given to `fast_init`.

        Raises:
            ValueError: for a function that has such factors; when called, if a parameter of the
                model is missing in what it returns.
        """
        return scaled_init(init_fn, {row.path: row.init for row in self.rows}, "mup")

    def scale(self):
        """Return the factors on learning rates, as an ``optax.GradientTransformation``.

        It multiplies updates. In a chain, put it after what depends on their size (Adam, Muon), and
        before a weight decay that should not be scaled.

        Raises:
            ValueError: at ``init``, for parameters that the model does not have; at ``update``, if
                another part of the optimizer applies the factors too.
        """
        return once(self._scaled({row.path: row.rate for row in self.rows}))

    def _scaled(self, factors: dict[str, float]):
        optax = _optax()

        def update(updates, state, params=None):
            return multiplied(updates, factors, "mup"), state

        def init(params):
            multiplied(jax.eval_shape(lambda: params), factors, "mup", only_check=True)
            return optax.EmptyState()

        return optax.GradientTransformation(init, update)

    def optimizer(
        self,
        factory: Callable,
        learning_rate: Any = None,
        *,
        independent_decay: bool = False,
        **options,
    ):
        """Make an Optax optimizer with rates, weight decay and epsilon where they belong.

        The rate of a parameter is ``learning_rate`` times its factor. The weight decay has no
        such factor: each step takes ``learning_rate · weight_decay`` of every parameter at every
        width. Adam's gradients are divided by their growth, so that its epsilon keeps its meaning.

        Optax's ``clip_by_global_norm`` does not transfer, because the norm of all gradients grows
        with the width. Use `clip_by_global_norm` of this object.

        Args:
            factory: ``optax.adamw``, ``optax.sgd``, ``optax.contrib.muon``, ...
            learning_rate: of the base model; a number or a schedule.
            independent_decay: take ``weight_decay`` of every parameter in each step, whatever the
                learning rate and its schedule.
            options: of the factory.

        Raises:
            TypeError: for what the factory returns in its place, or without a learning rate.
            ValueError: for an optimizer that follows another rule than these factors; at
                ``update``, if another part of the optimizer applies them too.
        """
        optax = _optax()
        check_family(factory, self.family)
        if learning_rate is None:
            raise TypeError("optimizer needs the learning_rate of the base model.")
        decays, options = without_decay(factory, learning_rate, options)
        parts = []
        if self.family == "adam":
            parts.append(self._scaled({row.path: 1 / row.epsilon for row in self.rows}))
        given, axes = dict(options), "muon_weight_dimension_numbers"
        if callable(make := options.get(axes)):
            shapes = [jax.ShapeDtypeStruct(p.shape, jnp.float32) for p in self.parameters]
            given[axes] = make(self.tree.unflatten(shapes))
        rates = {p.name: rate(self.family, p, given) for p in self.parameters}
        parts += [factory(learning_rate=learning_rate, **options), self._scaled(rates)]
        muon = {p.name for p in self.parameters if muon_axes(p, given)}
        for decay in decays:
            # Optax's Muon has a decay of its own for what it leaves to Adam.
            adams = decay.option == "adam_weight_decay"

            def chosen(path, adams=adams):
                return self.family != "muon" or (known(path, muon) is None) == adams

            parts.append(decaying(decay, independent_decay, chosen))
        return once(optax.chain(*parts))

    def clip_by_global_norm(self, max_norm: float):
        """Clip gradients by a norm that does not grow with the width.

        The norm of a parameter's gradient is that at the base times √n g, where the number of its
        entries grows by n and each entry by g. The clipped norm leaves these factors out:

            |g|² = Σ |g_i|² / (n_i g_i²).

        It stands before the optimizer: ``optax.chain(scale.clip_by_global_norm(1.0), ...)``.

        Args:
            max_norm: the largest norm, as at the base.
        """
        optax = _optax()
        weights = {
            p.name: 1 / (p.scaling.gradient * math.sqrt(product(p.growth))) for p in self.parameters
        }

        def update(updates, state, params=None):
            norm = optax.tree.norm(multiplied(updates, weights, "mup"))
            factor = jnp.minimum(1.0, max_norm / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny))
            return jax.tree.map(lambda g: g * factor.astype(g.dtype), updates), state

        return optax.GradientTransformation(lambda params: optax.EmptyState(), update)

    def __rich__(self):
        title = f"Factors for {self.family}, relative to the base"
        return table(title, self.rows, self.remarks, epsilon=self.family == "adam")


def parametrization(
    parameters: Sequence[Parameter], tree: Any, remarks: Sequence[str], optimizer: str
) -> Parametrization:
    """Make the table of a model's parameters for an optimizer.

    Raises:
        ValueError: if a parameter's draw is not known, or has a mean where it sums.
    """
    rows = []
    for each in parameters:
        wanted, factor = each.scaling, rate(optimizer, each, {})
        rows.append(
            Row(
                each.name,
                each.shape,
                each.base,
                wanted.kind,
                deviation(each),
                factor,
                wanted.gradient,
                1 / factor,
                wanted.why,
            )
        )
    own = [remark for each in parameters for remark in each.scaling.remarks]
    every = tuple(dict.fromkeys([*own, *remarks]))
    return Parametrization(tuple(rows), every, optimizer, tuple(parameters), tree)


def _optax():
    try:
        import optax
    except ImportError as error:
        raise ImportError("flaxinit's optimizers need Optax: pip install optax") from error
    require("mup", optax="0.2.8")
    return optax
