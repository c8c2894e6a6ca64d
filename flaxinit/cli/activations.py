"""The commands `flaxinit derive`, `table` and `meanfield`: an activation, or the catalogue."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from flaxinit import catalogue
from flaxinit.cli.users import imported

# What `flaxinit table --derive --json` printed when the book was written (`make book`).
_KNOWN = Path(catalogue.__file__).with_name("catalogue.json")


# Under the table of the catalogue.
_CLASSES = (
    "χ at gain: what a layer multiplies gradients by. class: at which variance K* of the signal a "
    "kernel and a bias keep signal, correlations and gradients: scale-invariant, at any, without a "
    "bias; every K*, at any, each with a bias of its own; K* = 0, where the signal fades slowly; "
    "half-stable, at one or a few; flaxinit meanfield NAME prints them."
)


def add(commands: Any) -> None:
    """Add the commands to a parser's commands."""
    derive = commands.add_parser("derive", help="derive the gains of an activation")
    derive.add_argument(
        "activation",
        help="a catalogue name (gelu), a formula ('x*tanh(x)'), or module:function",
    )
    derive.add_argument("--steps", action="store_true", help="print every step as Markdown")
    derive.set_defaults(run=_derive)

    table = commands.add_parser("table", help="print the catalogue with its gains")
    table.add_argument(
        "--derive", action="store_true", help="derive every gain again instead of reading it"
    )
    table.set_defaults(run=_table)

    meanfield = commands.add_parser(
        "meanfield",
        help="find critical points, fixed points and the edge of chaos",
        description="Find the critical points of an activation: the variances of kernel and bias "
        "that keep signal and gradient. With --sigma-w2, find the fixed points and depth scales "
        "at this variance of the kernel too; with --sigma-b2 alone, the edge of chaos.",
    )
    meanfield.add_argument("activation", help="as for derive")
    meanfield.add_argument(
        "--plot", nargs="?", const="", metavar="FILE", help="plot it (default NAME_meanfield.png)"
    )
    meanfield.add_argument(
        "--sigma-w2",
        type=float,
        help="find fixed points and depth scales at this variance of the kernel",
    )
    meanfield.add_argument(
        "--sigma-b2", type=float, help="variance of the bias; alone, find the edge of chaos at it"
    )
    meanfield.set_defaults(run=_meanfield)
    for command in (derive, table, meanfield):
        command.add_argument("--json", action="store_true", help="print JSON for machines")


def _activation(text: str):
    """Return a name or formula unchanged; import ``module:function``."""
    return imported(text, "jax.nn:gelu") if ":" in text else text


def _facts(derivation) -> dict:
    """Return a derivation as plain data: numbers in full, expressions as text."""
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
        facts["gain"] = derivation.gain
        exists = derivation.derivative_second_moment.exists
        facts["backward_gain"] = derivation.backward_gain if exists else None
    return facts


def _ends(moment) -> list[str]:
    """Return both certified bounds in decimal, to 45 digits."""
    import mpmath

    return [str(mpmath.nstr(end, 45)) for end in moment.bounds]


def _print_json(facts) -> None:
    print(json.dumps(_finite(facts), ensure_ascii=False, indent=2))


def _finite(facts) -> Any:
    """Replace infinity, which JSON does not have, by null."""
    if isinstance(facts, dict):
        return {key: _finite(value) for key, value in facts.items()}
    if isinstance(facts, list):
        return [_finite(value) for value in facts]
    return None if isinstance(facts, float) and not math.isfinite(facts) else facts


def _derive(options) -> int:
    from flaxinit.theory import derive
    from flaxinit.theory.report.text import flax_line

    derivation = derive(_activation(options.activation))
    if options.json:
        _print_json(_facts(derivation))
    elif options.steps:
        print(derivation.markdown())
    else:
        console = Console()
        console.print(derivation)
        module, colon, name = options.activation.partition(":")
        if colon:
            console.print(f"from {module} import {name.split('.')[0]}", style="green")
        line = flax_line(derivation, name if colon else None)
        console.print(line, style="green", markup=False, soft_wrap=True)
    return 0


def _meanfield(options) -> int:
    from flaxinit.theory import derive
    from flaxinit.theory.report.text import meanfield_report

    derivation = derive(_activation(options.activation))
    dual = derivation.maps.dual_expr
    facts = {
        "name": derivation.name,
        "critical points": [
            asdict(p) | {"exact": None if p.exact is None else str(p.exact)}
            for p in derivation.maps.criticality
        ],
        "dual": None if dual is None else str(dual),
    }
    if options.sigma_w2 is not None:
        pair = options.sigma_w2, options.sigma_b2 or 0.0
        facts["fixed points"] = [_point(p) for p in derivation.maps.fixed_points(*pair)]
        scales = zip(("xi_q", "xi_c"), derivation.maps.depth_scales(*pair), strict=True)
        facts["depth scales"] = dict(scales)
    elif options.sigma_b2 is not None:
        facts["edge of chaos"] = _point(derivation.maps.edge_of_chaos(options.sigma_b2))
    if options.plot is not None:
        from flaxinit.theory.report.plot import plot_meanfield

        path = Path(options.plot or f"{_file_name(derivation.name)}_meanfield.png")
        facts["plot"] = str(plot_meanfield(derivation, path))
    if options.json:
        _print_json(facts)
        return 0
    Console().print(meanfield_report(facts))
    return 0


def _point(point) -> dict:
    """Return a fixed point or an edge of chaos as plain data."""
    return asdict(point) | {"stability": point.stability}


def _file_name(name: str) -> str:
    return "".join(ch if ch.isalnum() or ch in "-_" else "_" for ch in name)[:60]


def _table(options) -> int:
    rows = _derived_rows() if options.derive else json.loads(_KNOWN.read_text("utf-8"))
    if options.json:
        _print_json(rows)
        return 0
    table = Table(
        title="Gains at q = 1",
        caption=_CLASSES,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    numbers = ("gain", "backward", "χ at gain")
    for heading in ("activation", "moments", *numbers, "class"):
        table.add_column(heading, justify="right" if heading in numbers else "left", no_wrap=True)
    for row in rows:
        gain, backward = row["gain"], row["backward_gain"] or math.inf
        numbers = (f"{gain:.6f}", f"{backward:.6f}", f"{(gain / backward) ** 2:.6f}")
        table.add_row(row["name"], row["second_moment"]["method"], *numbers, row["class"])
    Console().print(table)
    return 0


def _derived_rows() -> list[dict]:
    from flaxinit.theory import CATALOGUE, derive
    from flaxinit.theory.report.text import classes

    derivations = [derive(name) for name in CATALOGUE]
    return _finite([_facts(d) | {"class": classes(d)} for d in derivations])
