"""tune(): an initialization that keeps the signal of a model, without a change to the model."""

import functools
import itertools
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, get_args

import numpy as np

from flaxinit.initializers.checks import checked_count, checked_number
from flaxinit.signal.forecast import bounded, cotangent, input_signal
from flaxinit.signal.reading import laws
from flaxinit.signal.reading.checked import check_slopes, check_values
from flaxinit.signal.reading.model import WithInit, programs
from flaxinit.signal.reports.printed import Printed, grid
from flaxinit.signal.rules.observer import Named
from flaxinit.signal.samples.limits import Limits
from flaxinit.signal.samples.signals import Signal, is_key
from flaxinit.signal.samples.threads import one_thread
from flaxinit.signal.samples.whole import Partial, held_whole
from flaxinit.signal.tuning.homogeneity import Key, named
from flaxinit.signal.tuning.plan import plan
from flaxinit.signal.tuning.tuner import Tuner
from flaxinit.trees.factors import by_path, scaled_init
from flaxinit.trees.modules import is_linen

Keep = Literal["forward", "backward", "both"]


@dataclass(frozen=True)
class Factor:
    """The factor on the draw of one parameter, or of the part that one step of a loop reads.

    Attributes:
        path: as `fast_init` writes it, with the steps of loops: ``params/layers/kernel[3]``.
        shape: of the parameter.
        value: the factor.
        why: the reason, in words.
    """

    path: str
    shape: tuple[int, ...]
    value: float
    why: str


@dataclass(frozen=True, repr=False)
class Factors(Printed, Mapping[str, float]):
    """The factors on a model's kernels, by path; prints as a table.

    Attributes:
        rows: one for each parameter that multiplies the signal.
        remark: where single draws do not keep the signal that wide layers keep, and where factors
            still changed in the last round; empty if nowhere.
    """

    rows: tuple[Factor, ...]
    remark: str = ""

    def __getitem__(self, path: str) -> float:
        for row in self.rows:
            if row.path == path:
                return row.value
        raise KeyError(path)

    def __iter__(self) -> Iterator[str]:
        return (row.path for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __rich__(self):
        from rich.console import Group
        from rich.text import Text

        table = grid(("parameter", "shape", "factor", "why"), self.rows, "value")
        return Group(table, Text(self.remark)) if self.remark else table


@dataclass(frozen=True, repr=False)
class Tuned:
    """The initialization of a model with a factor on each kernel.

    Attributes:
        factors: the table of factors.
    """

    factors: Factors
    _init: Callable

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Initialize: the arguments and the result are those of the model's own init function.

        A function that builds an NNX module takes a key as well, as `fast_init` hands it on.
        """
        return self._init(*args, **kwargs)

    def __repr__(self) -> str:
        return repr(self.factors)


@one_thread
def tune(
    model: Any,
    /,
    *inputs: Any,
    keep: Keep = "forward",
    level: float | None = None,
    factors: Mapping[str, float] | None = None,
    particles: int = 4096,
    **options: Any,
) -> Tuned:
    """Return an initialization of a model that keeps its signal: its own draws, times factors.

    No parameter is drawn to find the factors. The model's program is run on the law of the signal,
    as `forecast` does, and each kernel's factor is chosen where it meets the signal:

    - Its outputs get the second moment of the pre-activation that its inputs were made of. This
      makes up for what an activation, a pooling or attention took away. It holds for wide layers;
      single draws of deep networks without norms stray, and then a remark says so. A kernel that
      meets the inputs themselves keeps their second moment, or makes it the ``level``.
    - Each of the B branches of a residual stream adds at most 1/B of what the stream starts with,
      so the stream at most doubles. If a norm follows each sum, B still counts all sums.
    - Two fresh products that are added share the second moment of one.

    ``keep="backward"`` keeps the second moment of the gradients of the pre-activations instead,
    from each kernel to the one before it, and ``keep="both"`` takes Glorot's compromise of the
    variances, ``2 / (1/v_forward + 1/v_backward)``. Where other kernels read
    the same outputs too, as from a residual stream, the gradient there is a sum over all of them:
    a kernel that reads such outputs keeps its forward factor. Branches have the same bound.

    The factor is 1 for embeddings that are looked up (and for a head that is tied to one), for
    kernels whose outputs a norm divides, so that a factor would do nothing, for weight-standardized
    kernels without a gain, for kernels that read a recurrent state that starts at 0, and for what
    is not random: zeros, scales, biases. A kernel that is used several times has one factor, chosen
    at its first use, and so have parameters that are concatenated to one kernel.

    Args:
        model: a Linen module, a function of ``nnx.Rngs`` that builds an NNX module, or a pair
            ``(init, apply)`` of functions, with ``init(key, *inputs)`` and
            ``apply(params, *inputs)``.
        inputs: the model's inputs, a batch of them. `jax.ShapeDtypeStruct` stands for unit
            Gaussian ones.
        keep: ``"forward"``, ``"backward"`` or ``"both"``.
        level: the second moment that the inputs get in the kernels that they meet; None keeps
            theirs. Some activations are not stable at 1: GELU makes small signals smaller and
            large ones larger, so 100 layers without a norm need 100 or more.
        factors: given factors, by path, which are not chosen; 1.0 leaves a parameter as it is. The
            ``factors`` of an earlier call serve, too.
        particles: channels drawn at each kernel, as in `forecast`.
        options: keyword arguments of the model, such as ``train=True`` and, for Linen, ``rngs``.

    Returns:
        An initialization with the arguments and the result of the model's own: ``model.init``, the
        function that builds the module, ``init``. It can be given to `fast_init`. Its ``factors``
        are a mapping from paths, and print as a table.

    Raises:
        TypeError: if the model is none of these, if an input without values is not floating or is
            a tracer, if no input is an array, or ``factors`` is no mapping from paths.
        ValueError: if no kernel of the parameters meets the inputs, if a signal is not finite, if
            ``keep`` or a path in ``factors`` is unknown, if a factor, the level or ``particles`` is
            not positive, if the batch is empty, or if no factor keeps the gradients.

    >>> import jax, flax.linen as nn
    >>> layers = [layer for _ in range(20) for layer in (nn.Dense(256), nn.relu)]
    >>> init = tune(nn.Sequential(layers), jax.ShapeDtypeStruct((4, 256), "float32"))
    >>> [round(factor**2, 1) for factor in init.factors.values()][:4]  # LeCun's draws before ReLU
    [1.0, 2.0, 2.0, 2.0]
    >>> params = init(jax.random.key(0), jax.numpy.ones((4, 256)))

    References:
        Mishkin and Matas (2016), All you need is a good init. Bingham and Miikkulainen (2023),
        AutoInit. De and Smith (2020), for the branches of a residual stream.
    """
    if keep not in get_args(Keep):
        names = ", ".join(map(repr, get_args(Keep)))
        raise ValueError(f"keep must be one of {names}; received {keep!r}.")
    level = None if level is None else checked_number("level", level, above=0)
    particles = checked_count("particles", particles)
    factors = _checked_factors(factors)
    check_values(inputs, options)
    traced = programs(model, inputs, options)
    if keep != "forward":
        check_slopes(traced.outputs)
    rng, numbers = np.random.default_rng(0), itertools.count(1)
    given = [input_signal(x, rng) for x in traced.inputs]

    def chosen(params: list[Signal]) -> Tuned:
        run = _Model(traced, params, given, numbers, Limits(particles=particles), level)
        pinned = run.pinned(factors)
        tuner, unsettled = run.forward(pinned, {}), ""
        if keep != "forward":
            tuner, unsettled = run.backward(keep, pinned, tuner)
        arrays = by_path(traced.names, traced.shapes, tuner.factors)
        remark = " ".join(filter(None, (unsettled, run.remark(tuner))))
        table = Factors(run.rows(tuner, pinned), remark)
        return Tuned(table, scaled_init(_init(model), arrays, "tune"))

    return held_whole(
        lambda whole: laws.read(traced, traced.inputs, given, numbers, rng, whole), chosen
    )


def _checked_factors(factors: Any) -> dict[str, float]:
    if isinstance(factors, Tuned):
        raise TypeError("factors is what tune returned: give its table, factors=init.factors.")
    if not isinstance(factors, Mapping | None) or not all(
        isinstance(k, str) for k in factors or {}
    ):
        raise TypeError(
            "factors must be a mapping from paths to numbers, such as "
            f"{{'params/layers_0/kernel': 1.0}}; received {factors!r}."
        )
    return {
        path: checked_number(f"The factor of {path}", factor, above=0)
        for path, factor in (factors or {}).items()
    }


class _Model:
    """The programs of a model, the laws of its parameters, and the plan of its kernels."""

    def __init__(
        self,
        traced: WithInit,
        params: list[Signal],
        given: list[Signal],
        numbers: Iterator[int],
        limits: Limits,
        level: float | None,
    ):
        self.traced, self.limits, self.level = traced, limits, level
        self.params, self.given, self.numbers = params, given, numbers
        self.observer = Named(traced.names, "tune")
        zeros = [
            each.known and not is_key(each.data) and not each.data.any() for each in self.params
        ]
        self.plan = plan(traced.apply, zeros, [math.prod(shape) for shape in traced.shapes])
        self.owners = {owner for owner in self.plan.owners.values() if owner is not None}
        if not self.owners or not self.plan.order:  # as of a norm, which has a scale alone
            raise ValueError(
                "tune found no kernel at work: the model has to multiply its inputs by arrays that "
                f"its initialization makes, which are: {', '.join(traced.names) or 'none'}."
            )
        if not any(is_key(each.data) or np.any(each.data) for each in self.given):
            raise ValueError(
                "The inputs are 0, so there is no signal to keep. Give tune a batch of real "
                "inputs, or a jax.ShapeDtypeStruct, which stands for unit Gaussian ones."
            )

    def path(self, key: Key) -> str:
        return named(self.traced.names, key)

    def pinned(self, factors: Mapping[str, float]) -> dict[Key, float]:
        """Return the factors that are given, by key."""
        kernels = {owner: self.plan.group(owner) for owner in self.owners}
        kernels |= {key: frozenset({key}) for key in self.plan.lookups}
        names = {self.path(key): group for group in kernels.values() for key in group}
        found = {}
        for path, factor in factors.items():
            if path not in names:
                near = get_close_matches(path, names, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"factors has {path!r}, which is not a kernel or an embedding of this model."
                    f"{hint} They are: {', '.join(sorted(names))}."
                )
            for key in names[path]:
                if found.setdefault(key, factor) != factor:
                    raise ValueError(
                        f"factors has two numbers for one kernel: {path} and {self.path(key)} are "
                        f"concatenated. Give both {factor:g}, or one of them alone."
                    )
        return found

    def _tuner(self, limits: Limits, **options: Any) -> Tuner:
        rng = np.random.default_rng(0)  # the same in each run: factors differ, not chance
        return Tuner(
            limits,
            rng,
            self.numbers,
            self.observer,
            Partial.of(self.params),
            plan=self.plan,
            **options,
        )

    def forward(self, pinned: Mapping[Key, float], ratios: Mapping[Key, float]) -> Tuner:
        """Choose factors in one pass; `ratios` change the variance that each kernel wants."""
        fixed = self.plan.fixed | set(pinned)
        given = {"factors": dict(pinned), "fixed": fixed, "ratios": ratios, "level": self.level}
        tuner = self._tuner(self.limits, **given)
        with tuner.partial.checked(), self.observer.placed():
            tuner.run(self.traced.apply, [*self.params, *self.given])
        return tuner

    def backward(self, keep: Keep, pinned: Mapping[Key, float], tuner: Tuner) -> tuple[Tuner, str]:
        """Change factors by the gradients that are forecast with them, until they settle.

        A kernel's gradient depends on the factors of the kernels before it, by the slope of the
        activation, so each round corrects at least one more kernel.

        Returns:
            The run with the factors, and a remark if they did not settle.
        """
        program = self.traced.pullback()
        limits = bounded(self.limits, self.traced.apply)
        ratios: dict[Key, float] = {}
        changes: dict[Key, float] = {}
        for _ in range(_ROUNDS):
            run = self._tuner(limits, factors=tuner.factors, chooses=False)
            slopes = [cotangent(x, run) for x in self.traced.outputs]
            with run.partial.checked(), self.observer.placed():
                run.run(program, [*self.params, *self.given, *slopes])
            before, ratios = ratios, self._ratios(keep, run)
            tuner = self.forward(pinned, ratios)
            changes = {k: abs(math.log(ratios[k] / before.get(k, 1.0))) for k in ratios}
            if all(change < _SETTLED for change in changes.values()):
                return tuner, ""
        key = max(changes, key=lambda k: changes[k])
        return tuner, (
            f"Gradients are not kept: after {_ROUNDS} rounds the variance of {self.path(key)} "
            f"still changed by a factor of {math.exp(changes[key]):.3g}."
        )

    def _ratios(self, keep: Keep, run: Tuner) -> dict[Key, float]:
        ratios = {}
        for key, growth in run.growth.items():
            maker = self.plan.before(key)
            before = None if maker is None else run.gradients.get(maker)
            after, factor = run.gradients.get(key), run.factors.get(key, 1.0)
            if before and after:
                shrinking = before / after / factor**2
                wanted = shrinking if keep == "backward" else (growth + shrinking) / 2
                ratio = growth / wanted if wanted else math.inf
                if not 0 < ratio < math.inf:
                    raise ValueError(
                        f"No factor on {self.path(key)} keeps its gradients: they are {after:.3g}, "
                        f"and {before:.3g} one kernel before. Give it one in factors, or use "
                        "keep='forward'."
                    )
                ratios[key] = ratio
        return ratios

    def remark(self, tuner: Tuner) -> str:
        if not tuner.doubts:
            return ""
        key, doubt = next(iter(tuner.doubts.items()))
        return f"Wide layers keep the signal. From {self.path(key)} on, one draw is {doubt}."

    def rows(self, tuner: Tuner, pinned: Mapping[Key, float]) -> tuple[Factor, ...]:
        rows = []
        for key in dict.fromkeys([*self.plan.order, *tuner.factors]):
            why = "given" if key in pinned else self.plan.why(key, key in tuner.factors)
            shape = self.traced.shapes[key[0]]
            rows.append(Factor(self.path(key), shape, tuner.factors.get(key, 1.0), why))
        return tuple(rows)


# Rounds of gradients: a net of tanh converges by a factor of ten in each. A change of the variance
# by less than a percent is less than what chance does to one draw.
_ROUNDS, _SETTLED = 12, 1e-2


def _init(model: Any) -> Callable:
    """Return the function of a model that initializes it."""
    if isinstance(model, tuple):
        return model[0]
    if is_linen(model):
        return model.init
    nnx = sys.modules["flax.nnx"]  # of which the model is made

    @functools.wraps(model)
    def init(rngs):  # or a key, which is what `fast_init` hands on
        return model(rngs if isinstance(rngs, nnx.Rngs) else nnx.Rngs(rngs))

    return init
