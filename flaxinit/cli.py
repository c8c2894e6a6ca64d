"""The command `flaxinit`: derive an activation, or print the catalogue."""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, or 2 for input that cannot be used."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, TypeError, ImportError, OSError) as error:
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

    meanfield = commands.add_parser("meanfield", help="criticality, edge of chaos, the maps")
    meanfield.add_argument("activation", help="as for derive")
    meanfield.add_argument(
        "--plot", nargs="?", const="", metavar="FILE", help="draw it (default NAME_meanfield.png)"
    )
    meanfield.add_argument("--sigma-w2", type=float, help="fixed points and depth scales at this")
    meanfield.add_argument("--sigma-b2", type=float, default=0.0, help="bias variance (default 0)")
    meanfield.set_defaults(run=_meanfield)
    for command in (derive, table, meanfield):
        command.add_argument("--json", action="store_true", help="print JSON for machines")
    return parser


def _activation(text: str):
    """A name or formula as it is; ``module:function`` imported."""
    module, colon, name = text.partition(":")
    if not colon:
        return text
    if not module or not name:
        raise ValueError(f"{text!r}: write module:function, such as jax.nn:gelu")
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 (sys.path holds strings)
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{text!r}: the module {module!r} cannot be imported ({error}); "
            "run the command in the folder that holds it"
        ) from None
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{text!r}: {found.__name__} has no {part!r}")
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
            "bounds": None if moment.bounds is None else _ends(moment),
        }
    if not derivation.second_moment.parameters:
        backward = derivation.backward_gain
        facts["gain"] = derivation.gain
        facts["backward_gain"] = backward if backward < float("inf") else None
    return facts


def _ends(moment) -> list[str]:
    """Both certified bounds in decimal, to 45 digits."""
    import mpmath

    return [str(mpmath.nstr(end, 45)) for end in moment.bounds]


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


def _meanfield(options) -> int:
    from flaxinit.theory import derive

    derivation = derive(_activation(options.activation))
    found = derivation.criticality
    facts = {
        "name": derivation.name,
        "class": found.kind,
        "q": found.q,
        "q_exact": None if found.exact is None else str(found.exact),
        "sigma_w2": found.sigma_w2,
        "sigma_b2": found.sigma_b2,
        "dual": None if derivation.maps.dual_expr is None else str(derivation.maps.dual_expr),
    }
    if options.sigma_w2 is not None:
        pair = options.sigma_w2, options.sigma_b2
        facts["fixed points"] = [
            {"q": p.q, "slope": p.slope, "chi": p.chi, "stable": p.stable}
            for p in derivation.fixed_point(*pair)
        ]
        facts["depth scales"] = dict(
            zip(("xi_q", "xi_c"), derivation.depth_scales(*pair), strict=True)
        )
    elif options.sigma_b2:
        q, sigma_w2 = derivation.edge_of_chaos(options.sigma_b2)
        facts["edge of chaos"] = {"q": q, "sigma_w2": sigma_w2, "sigma_b2": options.sigma_b2}
    if options.plot is not None:
        from flaxinit.theory.plot import plot_meanfield

        path = Path(options.plot or f"{_file_name(derivation.name)}_meanfield.png")
        facts["plot"] = str(plot_meanfield(derivation, path))
    if options.json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
        return 0
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    labels = {"q": "K*", "q_exact": "K* exactly", "sigma_w2": "σ_w²", "sigma_b2": "σ_b²"}
    labels["dual"] = "E[φ(u)φ(v)]"
    for key, value in facts.items():
        if value is not None:
            table.add_row(labels.get(key, key), str(value))
    Console().print(table)
    return 0


def _file_name(name: str) -> str:
    return "".join(ch if ch.isalnum() or ch in "-_" else "_" for ch in name)[:60]


def _table(options) -> int:
    from flaxinit.theory import CATALOGUE, derive

    derivations = [derive(name) for name in CATALOGUE]
    if options.json:
        rows = [_facts(d) | {"class": d.criticality.kind} for d in derivations]
        print(json.dumps(rows, ensure_ascii=False, indent=2))
        return 0
    table = Table(title="Gains at q = 1", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    numbers = ("gain", "backward", "χ at gain")
    for heading in ("activation", "moments", *numbers, "class"):
        table.add_column(heading, justify="right" if heading in numbers else "left", no_wrap=True)
    for d in derivations:
        chi = d.derivative_second_moment.value / d.second_moment.value
        numbers = (f"{d.gain:.6f}", f"{d.backward_gain:.6f}", f"{chi:.6f}")
        table.add_row(d.name, d.second_moment.method, *numbers, d.criticality.kind)
    Console().print(table)
    return 0
