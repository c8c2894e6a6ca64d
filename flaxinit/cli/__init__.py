"""The command `flaxinit`: a parser, and a module for each kind of command."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence

from rich.console import Console

from flaxinit import __version__
from flaxinit.cli import activations, audit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit status: 0; 1 if flaxinit has a defect, if an audit has a finding, or if the output
        is not read to its end; 2 if the input cannot be used.
    """
    options = _parser().parse_args(_formulas(sys.argv[1:] if arguments is None else arguments))
    try:
        status = options.run(options)
        sys.stdout.flush()  # a closed pipe is noticed here, not at exit
        return status
    except BrokenPipeError:  # such as `| head`: its reader has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, TypeError, ImportError, OSError) as error:
        _complain(f"flaxinit: {error}")
        return 2
    except AssertionError as error:  # two routes to one number disagree
        _complain(f"flaxinit contradicts itself. Please report it: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def _formulas(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the arguments, with a space before a formula such as -x.

    Without it, argparse takes -x for an option. Only -h is an option of one letter.
    """
    for text in arguments:
        yield f" {text}" if text[:1] == "-" and text[:2] not in ("--", "-h") else text


def _complain(message: str) -> None:
    Console(stderr=True).print(message, style="red", markup=False, soft_wrap=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flaxinit", description="Derive the variance of a weight for any activation."
    )
    parser.add_argument("--version", action="version", version=f"flaxinit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    activations.add(commands)
    audit.add(commands)
    return parser
