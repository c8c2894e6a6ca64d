"""The pre-activations of a model of any library: what its products with the signal make."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from flaxinit.signal.reading.model import Programs
from flaxinit.versions.jaxpr import bind, called, closed, evaluate, unroll_scan
from flaxinit.width.analysis import Parameter, walked
from flaxinit.width.depth import Place


class Product(NamedTuple):
    """A product with the signal.

    Attributes:
        name: of its kernel; products of two signals, such as attention's scores, are numbered.
        growth: of its size where training is right, because the model multiplies it by the inverse.
    """

    name: str
    growth: float


def products(
    base: Programs, model: Programs, parameters: Sequence[Parameter]
) -> dict[Place, Product]:
    """Return the products of a model with the signal, by place."""
    axes = [parameter.growth for parameter in parameters]
    walk = walked(base, model, axes, [parameter.laws[1].drawn for parameter in parameters])
    numbers = itertools.count(1)
    found = {}
    for place, (parts, made) in sorted(walk.products.items()):
        name = ", ".join(model.names[n] for n in parts) or f"product {next(numbers)} of signals"
        # One of the parameters behind it makes up for what multiplies it later.
        owners = [parameters[walk.uses[n].parameter].scaling.size for n in made.scales]
        found[place] = Product(name, made.size * min(owners, default=1.0))
    return found


def recording(program: ClosedJaxpr, places: dict[Place, str]) -> Callable[..., Any]:
    """Turn a program into a function that returns its results, and the products at places.

    The products are a dictionary by name. A product in a loop has one entry for each step, and the
    names of later ones end in a number.
    """

    def function(*operands: Any) -> tuple[list[Any], dict[str, Any]]:
        record: dict[str, Any] = {}
        results = _run(program, operands, (), places, record)
        return results, record

    return function


def _run(program: ClosedJaxpr, operands: Sequence[Any], place: Place, places, record) -> list[Any]:
    numbers = itertools.count()

    def equation(each, values: list[Any]) -> list[Any]:
        here = (*place, next(numbers))
        if not any(known[: len(here)] == here for known in places):
            return bind(each, values)
        if here in places:
            results = bind(each, values)
            record[_free(places[here], record)] = results[0]
            return results
        if each.primitive.name == "scan":
            return unroll_scan(
                each,
                values,
                lambda body, inner: _run(body, inner, here, places, record),
                lambda rows, step: rows[step],
                jnp.stack,
            )
        body = called(each)
        if body is None:
            return bind(each, values)  # what a while loop or a branch makes has no fixed number
        return _run(closed(body), values, here, places, record)

    return evaluate(program, operands, equation)


def _free(name: str, record: dict[str, Any]) -> str:
    """Return the name, numbered from its second use on."""
    if name not in record:
        return name
    return next(text for n in itertools.count(1) if (text := f"{name}[{n}]") not in record)
