r"""Formulas become MathML while the site is built: a reader's browser needs no script for them.

``\tag`` and ``\boxed`` have no counterpart in MathML Core, so the page's style draws them.
"""

import re

from docutils import nodes
from latex2mathml.converter import convert

_TAG = re.compile(r"\\tag\{([^{}]*)\}")
_FUNCTION = r"\\(?:(?:arc)?(?:sin|cos|tan)h?|coth|log|operatorname\{[A-Za-z]+\})"
# What the converter does not know, it shows as it was written.
_UNKNOWN = re.compile(r"\\[A-Za-z]+")


def mathml(latex: str, display: str = "inline") -> str:
    """Return a formula as MathML.

    Raises:
        ValueError: for a command that the converter does not know.
    """
    made = convert(_spaced(latex), display=display)
    unknown = _UNKNOWN.search(re.sub(r"<annotation.*?</annotation>", "", made, flags=re.DOTALL))
    if unknown:
        raise ValueError(f"{unknown[0]} in the formula {latex} has no MathML. Write it otherwise.")
    return made


def _spaced(latex: str) -> str:
    """Put thin spaces around function names: TeX sets them by itself, MathML does not."""
    latex = latex.replace(r"\\", r"\\ ")  # the converter reads a line break before a digit as one
    latex = re.sub(rf"(?<=[\w}})])\s*({_FUNCTION})", r"\\,\1", latex)
    return re.sub(rf"({_FUNCTION})\s+(?=[A-Za-z\d\\])", r"\1\\,", latex)


def inline(translator, node) -> None:
    """Write a formula of a line."""
    translator.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def block(translator, node) -> None:
    """Write a displayed formula, in a box if it is boxed, with its number at the right."""
    latex = node.astext()
    tag = _TAG.search(latex)
    boxed = r"\boxed" in latex
    latex = _TAG.sub("", latex).replace(r"\boxed", "").strip()
    number = f'<span class="formula-number">({tag[1]})</span>' if tag else ""
    name = "formula boxed" if boxed else "formula"
    # A formula that is wider than the window scrolls, by keyboard too.
    translator.body.append(
        f'<div class="{name}" tabindex="0">{mathml(latex, "block")}{number}</div>\n'
    )
    raise nodes.SkipNode


def setup(app):
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
