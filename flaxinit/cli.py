"""The command `flaxinit`: derive an activation, or print the catalogue."""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, or 2 for input that cannot be used."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, TypeError, ImportError, AttributeError) as error:
        Console(stderr=True).print(f"flaxinit: {error}", style="red", markup=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flaxinit", description="With what variance must this weight be drawn, and why?"
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    derive = commands.add_parser("derive", help="derive the gains of an activation")
    derive.add_argument(
        "activation",
        help="a catalogue name (gelu), a formula ('x*tanh(x)'), or module:function",
    )
    derive.add_argument("--steps", action="store_true", help="print every step as Markdown")
    derive.set_defaults(run=_derive)

    table = commands.add_parser("table", help="the whole catalogue with its gains")
    table.set_defaults(run=_table)
    for command in (derive, table):
        command.add_argument("--json", action="store_true", help="print JSON for machines")
    return parser


def _activation(text: str):
    """A name or formula as it is; ``module:function`` imported."""
    module, colon, name = text.partition(":")
    if not colon:
        return text
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 (sys.path holds strings)
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{text!r}: the module {module!r} cannot be imported ({error}); "
            "run the command in the folder that holds it"
        ) from None
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _facts(derivation) -> dict:
    """A derivation as plain data: numbers in full, expressions as text."""
    moments = {
        "mean": derivation.mean,
        "second_moment": derivation.second_moment,
        "derivative_second_moment": derivation.derivative_second_moment,
    }
    facts: dict = {"name": derivation.name, "expr": str(derivation.expr)}
    for name, moment in moments.items():
        facts[name] = {
            "method": moment.method,
            "exact": None if moment.exact is None else str(moment.exact),
            "digits": None if moment.bounds is None else moment.digits,
        }
    if not derivation.second_moment.parameters:
        backward = derivation.backward_gain
        facts["gain"] = derivation.gain
        facts["backward_gain"] = backward if backward < float("inf") else None
    return facts


def _derive(options) -> int:
    from flaxinit.theory import derive
    from flaxinit.theory.report import flax_line

    derivation = derive(_activation(options.activation))
    if options.json:
        print(json.dumps(_facts(derivation), ensure_ascii=False, indent=2))
    elif options.steps:
        print(derivation.markdown())
    else:
        console = Console()
        console.print(derivation)
        module, colon, name = options.activation.partition(":")
        if colon:
            console.print(f"from {module} import {name.split('.')[0]}", style="green")
        console.print(flax_line(derivation, name if colon else None), style="green", markup=False)
    return 0


def _table(options) -> int:
    from flaxinit.theory import CATALOGUE, derive

    derivations = [derive(name) for name in CATALOGUE]
    if options.json:
        print(json.dumps([_facts(d) for d in derivations], ensure_ascii=False, indent=2))
        return 0
    table = Table(title="Gains at q = 1")
    for heading in ("activation", "E[φ²]", "gain", "backward gain", "χ at the gain"):
        table.add_column(heading, justify="left" if heading in ("activation", "E[φ²]") else "right")
    for d in derivations:
        chi = d.derivative_second_moment.value / d.second_moment.value
        table.add_row(
            d.name, d.second_moment.method, f"{d.gain:.9f}", f"{d.backward_gain:.9f}", f"{chi:.6f}"
        )
    Console().print(table)
    return 0
