"""The command `flaxinit audit`: judge a model that a module defines."""

import argparse
import re
from pathlib import Path
from typing import Any

from flaxinit.cli.users import blamed, imported

_INPUT = re.compile(r"(?P<shape>\d+(?:,\d+)*)?(?::(?P<dtype>\w+))?(?:<(?P<below>\d+))?")


def add(commands: Any) -> None:
    """Add the command to a parser's commands."""
    audit = commands.add_parser(
        "audit",
        help="measure the signal of a model, and say what is wrong with it",
        description="Draw a model once, measure its signal on unit normal inputs (or on integers "
        "below a bound), and print what was found. The exit status is 1 if there is any finding.",
    )
    audit.add_argument(
        "model",
        help="module:name of a Linen module, of its class, or with --nnx of "
        "a class or function of nnx.Rngs",
    )
    audit.add_argument(
        "--input",
        action="append",
        required=True,
        dest="inputs",
        metavar="SHAPE",
        help="8,32,32,3 for unit normal numbers; '4,32:int32<1000' for integers below 1000; "
        "once for each input",
    )
    audit.add_argument("--nnx", action="store_true", help="the model is built from nnx.Rngs(0)")
    audit.add_argument(
        "--rngs",
        default="",
        metavar="NAMES",
        help="names of further random streams of a Linen module, such as dropout",
    )
    audit.add_argument("--train", action="store_true", help="call the model with train=True")
    audit.add_argument("--forward", action="store_true", help="leave the gradients out")
    audit.add_argument("--html", metavar="FILE", help="write the report as a page")
    audit.add_argument("--plot", metavar="FILE", help="write the report as an image")
    audit.add_argument("--json", action="store_true", help="print JSON for machines")
    audit.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; return 1 if there is a finding."""
    from rich.console import Console

    report = _report(imported(options.model, "flaxinit audit my_module:Model"), options)
    if options.html:
        report.html(Path(options.html))
    if options.plot:
        report.plot(Path(options.plot))
    if options.json:
        print(report.to_json())
    else:
        Console().print(report)
    return 1 if report.findings else 0


def _report(model: Any, options: argparse.Namespace) -> Any:
    import flaxinit

    inputs = [array(text, n) for n, text in enumerate(options.inputs)]
    call: dict[str, Any] = {"train": True} if options.train else {}
    make = _nnx if options.nnx else _linen
    arguments, further = make(model, inputs, call, options)
    return flaxinit.audit(*arguments, *inputs, **call, **further, backward=not options.forward)


def _nnx(model: Any, inputs: list[Any], call: dict[str, Any], options: argparse.Namespace):
    """Return the first arguments of `audit`, and options; the model runs once, as a trace.

    What the model raises is raised here: an error in `audit` after that is one of flaxinit.
    """
    import jax
    from flax import linen as nn, nnx

    is_class = isinstance(model, type)
    if is_class and not issubclass(model, nnx.Module):
        raise TypeError(f"{options.model} is not an NNX module; leave --nnx out.")
    if isinstance(model, nnx.Module | nn.Module) or not callable(model):
        raise TypeError(
            f"{options.model} is {_an(model)}. With --nnx, name a class or a function of nnx.Rngs, "
            "which the command calls with nnx.Rngs(0)."
        )
    with blamed(options.model, _arguments_hint(options)):
        build: Any = model
        built = build(rngs=nnx.Rngs(0)) if is_class else build(nnx.Rngs(0))
    if not isinstance(built, nnx.Module):
        raise TypeError(f"{options.model} returns {_an(built)}, which is not an NNX module.")
    with blamed(options.model, _hint(inputs, options)):
        graphdef, state = nnx.split(built)
        jax.eval_shape(lambda state, *x: nnx.merge(graphdef, state)(*x, **call), state, *inputs)
    return (built,), {}


def _linen(model: Any, inputs: list[Any], call: dict[str, Any], options: argparse.Namespace):
    """Return the same of a Linen module."""
    import jax
    from flax import linen as nn

    is_class = isinstance(model, type)
    if not (issubclass(model, nn.Module) if is_class else isinstance(model, nn.Module)):
        raise TypeError(
            f"{options.model} is not a Linen module. For an NNX model, a class or a function of "
            "nnx.Rngs, add --nnx."
        )
    rngs = {name: jax.random.key(n + 2) for n, name in enumerate(_names(options))}
    further: dict[str, Any] = {"rngs": rngs} if rngs else {}
    with blamed(options.model, _arguments_hint(options)):
        module = model() if is_class else model
    with blamed(options.model, _hint(inputs, options)):
        init = jax.jit(lambda key: module.init({**rngs, "params": key}, *inputs, **call))
        params = init(jax.random.key(1))
        if set(params) - {"params"}:
            further["mutable"] = sorted(set(params) - {"params"})
        jax.eval_shape(
            lambda params, *x: module.apply(params, *x, **call, **further), params, *inputs
        )
    return (module.apply, params), further


def _names(options: argparse.Namespace) -> list[str]:
    return [name for name in options.rngs.split(",") if name]


def _an(value: Any) -> str:
    return f"an instance of {type(value).__name__}"


def _arguments_hint(options: argparse.Namespace):
    """Return a function from what building a model raises to how its arguments are given."""

    def hint(error: Exception, message: str) -> str:
        if not isinstance(error, TypeError) or " missing " not in message:
            return ""
        name = options.model.partition(":")[2]
        given = ", ".join(f"{each}=..." for each in re.findall(r"'(\w+)'", message))
        line = f"net = {name}({given})"
        if options.nnx:
            line = f"def net(rngs): return {name}({given}, rngs=rngs)"
        return f"The command gives none: write `{line}` in a module, and audit that net."

    return hint


def _hint(inputs: list[Any], options: argparse.Namespace):
    """Return a function from a model's error to the option that is missing or superfluous."""
    import jax.numpy as jnp
    from flax.errors import InvalidRngError

    def hint(error: Exception, message: str) -> str:
        stream = re.search(r'PRNG for "(\w+)"', message)
        if isinstance(error, InvalidRngError) and stream:
            return f"Add --rngs {','.join([*_names(options), stream[1]])}."
        if isinstance(error, TypeError) and "keyword argument 'train'" in message:
            return "Leave --train out."
        floating = [x for x in inputs if jnp.issubdtype(x.dtype, jnp.floating)]
        if floating and "integer" in message:
            shape = ",".join(map(str, floating[0].shape))
            return f"Tokens are integers: --input '{shape}:int32<100', below the vocabulary's size."
        return ""

    return hint


def array(text: str, number: int = 0) -> Any:
    """Return the input that is written as shape, dtype and bound.

    >>> array("2,3").shape, array("4:int32<10").dtype
    ((2, 3), dtype('int32'))
    """
    import jax
    import jax.numpy as jnp

    found = _INPUT.fullmatch(text.replace(" ", ""))
    if found is None or not text.strip():
        raise ValueError(
            f"{text!r} is no input. Write a shape such as 8,32,32,3, or a shape with a dtype and a "
            "bound such as '4,32:int32<1000' (in quotes, or the shell reads <)."
        )
    shape = tuple(int(n) for n in (found["shape"] or "").split(",") if n)
    name = found["dtype"] or ("int32" if found["below"] else "float32")
    try:
        dtype = jnp.dtype(name)
    except TypeError:
        raise ValueError(
            f"{text!r}: {name} is no dtype. Write float32, bfloat16 or int32."
        ) from None
    key = jax.random.fold_in(jax.random.key(0), number)
    if jnp.issubdtype(dtype, jnp.integer):
        dtype = jax.dtypes.canonicalize_dtype(dtype)
        most = int(jnp.iinfo(dtype).max)
        if not found["below"]:
            raise ValueError(f"{text!r}: integers need a bound, such as {text}<{min(1000, most)}.")
        below = int(found["below"])
        if not 0 < below <= most:
            raise ValueError(
                f"{text!r}: the bound is {below}. For {dtype.name}, write one from 1 to {most}."
            )
        return jax.random.randint(key, shape, 0, below, dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"{text!r}: inputs are floats or integers, not {name}. Write float32, bfloat16 or "
            "int32."
        )
    if found["below"]:
        raise ValueError(
            f"{text!r}: a bound is for integers. Write {shape}:int32<{found['below']}."
        )
    return jax.random.normal(key, shape, dtype)
