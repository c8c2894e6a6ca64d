"""A page as Markdown with LaTeX, as HTML with MathML, and as text for a terminal."""

import html
import os
import re
import tempfile
from pathlib import Path

from derivations.page import Display, Page, Step, Table, Text

_SPACES = {
    # Markdown reads a backslash before punctuation as an escape, so commands are spelled out.
    r"\,": r"\thinspace ",
    r"\:": r"\medspace ",
    r"\;": r"\thickspace ",
    r"\!": r"\negthinspace ",
    r"\{": r"\lbrace ",
    r"\}": r"\rbrace ",
    r"\ ": "~",
}
_SPACE = re.compile("|".join(map(re.escape, _SPACES)) + r"|\\\\")


def markdown_safe(text: str) -> str:
    """Rewrite LaTeX that Markdown's backslash escapes would change."""
    return _SPACE.sub(lambda found: _SPACES.get(found[0], found[0]), text)


def markdown(page: Page) -> str:
    """Return the page as Markdown with LaTeX between dollars."""
    parts = [f"# {page.title}"]
    for block in page.blocks:
        match block:
            case Text(text):
                parts.append(text)
            case Step(number, formula, because, check, boxed):
                parts.append(f"**({number})** {because} *[checked: {check}]*")
                shown = f"\\boxed{{\\displaystyle {formula}}}" if boxed else formula
                parts.append(f"$$\n{shown} \\tag{{{number}}}\n$$")
            case Display(formula):
                parts.append(f"$$\n{formula}\n$$")
            case Table(header, rows):
                lines = [header, ["---"] * len(header), *rows]
                parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
    if page.kind == "activation":
        parts.append(f"## Plot\n\n![{page.name}: φ, Q-map and C-map](plots/{page.name}.png)")
    parts.append("## References\n\n" + "\n".join(f"- {each}" for each in page.references))
    return markdown_safe("\n\n".join(parts)) + "\n"


_STYLE = """
body { max-width: 54rem; margin: 2rem auto; padding: 0 1rem; font: 1.05rem/1.55 Georgia, serif;
       color: #1c1c1c; }
h1, h2 { font-weight: 600; line-height: 1.2; } h2 { margin-top: 2.2rem; }
.formula { display: flex; align-items: center; margin: .7rem 0 1.1rem; overflow: auto hidden;
           padding: .3rem 0; }
.formula > :first-child { flex: 1; text-align: center; } .number { padding-left: 1rem; }
.box math { border: 1.5px solid #1c1c1c; padding: .5rem .8rem; }
.check { color: #2e7d32; font-size: .82rem; } table { border-collapse: collapse; }
td, th { padding: .25rem .8rem .25rem 0; text-align: left; border-bottom: 1px solid #ddd; }
img { max-width: 100%; } math { font-size: 1.05em; }
"""


def document(title: str, body: str) -> str:
    """Return a complete HTML page that loads nothing else."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def web(page: Page) -> str:
    """Return the page as HTML, with formulas in MathML, which browsers show without scripts."""
    from latex2mathml.converter import convert

    def display(formula: str, extra: str = "", number: str = "") -> str:
        # latex2mathml reads `\\0` as a letter; `\\ 0` is the same formula.
        mathml = convert(_spaced(formula).replace(r"\\", r"\\ "), display="block")
        return f'<div class="formula{extra}"><span>{mathml}</span>{number}</div>'

    parts = [f"<h1>{inline(page.title)}</h1>"]
    for block in page.blocks:
        match block:
            case Text(text) if text.startswith("## "):
                parts.append(f"<h2>{inline(text[3:])}</h2>")
            case Text(text):
                parts.append(f"<p>{inline(text)}</p>")
            case Step(number, formula, because, check, boxed):
                boxed = boxed or r"\boxed" in formula  # MathML Core has no box: CSS draws it
                formula = formula.replace(r"\boxed", "")
                note = f'<span class="check">✓ {html.escape(check)}</span>'
                parts.append(f"<p><b>({number})</b> {inline(because)} {note}</p>")
                tag = f'<span class="number">({number})</span>'
                parts.append(display(formula, " box" if boxed else "", tag))
            case Display(formula):
                parts.append(display(formula))
            case Table(header, rows):
                head = "".join(f"<th>{inline(cell)}</th>" for cell in header)
                body = "".join(
                    "<tr>" + "".join(f"<td>{inline(cell)}</td>" for cell in row) + "</tr>"
                    for row in rows
                )
                parts.append(f"<table><tr>{head}</tr>{body}</table>")
    if page.kind == "activation":
        parts.append(
            f'<h2>Plot</h2><p><img src="../plots/{page.name}.png" '
            f'alt="{page.name}: φ and its derivative, Q-map, C-map"></p>'
        )
    listed = "".join(f"<li>{html.escape(each)}</li>" for each in page.references)
    parts.append(f"<h2>References</h2><ul>{listed}</ul>")
    parts.append('<p><a href="index.html">Contents</a></p>')
    return document(page.title, "\n".join(parts))


_FUNCTION = r"\\(?:(?:arc)?(?:sin|cos|tan)h?|log|operatorname\{[A-Za-z]+\})"


def _spaced(formula: str) -> str:
    """Put thin spaces around function names: TeX sets them by itself, MathML does not."""
    formula = re.sub(rf"(?<=[\w}})])\s*({_FUNCTION})", r"\\,\1", formula)
    return re.sub(rf"({_FUNCTION})\s+(?=[A-Za-z\d\\])", r"\1\\,", formula)


def inline(text: str) -> str:
    """Return text with $mathematics$, *emphasis* and [links](target) as HTML."""
    from latex2mathml.converter import convert

    pieces = re.split(r"\$([^$]+)\$", text)
    for index, piece in enumerate(pieces):
        if index % 2:
            pieces[index] = convert(_spaced(piece))
        else:
            piece = re.sub(r"\*([^*]+)\*", r"<em>\1</em>", html.escape(piece, quote=False))
            pieces[index] = re.sub(
                r"\[([^]]+)\]\(([^)]+)\)", r'<a href="\2">\1</a>', piece
            ).replace('.md"', '.html"')
    return "".join(pieces)


_WORDS = {
    "phi": "φ", "Phi": "Φ", "sigma": "σ", "chi": "χ", "pi": "π", "theta": "θ", "rho": "ρ",
    "alpha": "α", "lambda": "λ", "mu": "μ", "beta": "β", "gamma": "γ", "infty": "∞", "le": "≤",
    "ge": "≥", "to": "→", "cdot": "·", "int": "∫", "sum": "∑", "lvert": "|", "rvert": "|",
    "Rightarrow": "⇒", "sim": "~", "approx": "≈", "in": "∈", "neq": "≠", "pm": "±",
    "sqrt": "√", "qquad": "   ", "quad": "  ", "left": "", "right": "", "mathbb": "",
    "operatorname": "",
    "text": "", "big": "", "Big": "",
}  # fmt: skip


def spoken(text: str) -> str:
    """Return LaTeX as plain text: a symbol for each command, a slash for each fraction."""

    def bracket(inside: str) -> str:
        return inside if re.fullmatch(r"\w*|[\w√]+", inside) else f"({inside})"

    text = text.replace(r"\,", " ").replace("$", "").replace("*", "")
    text = re.sub(r"\\[;:! ]", " ", text)
    text = re.sub(r"\\t?frac(\w)(\w)", r"\\frac{\1}{\2}", text)
    while "{" in text:  # from the inside out
        before = text
        text = re.sub(
            r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}",
            lambda found: f"{bracket(found[1])}/{bracket(found[2])}",
            text,
        )
        text = re.sub(r"\\sqrt\{([^{}]*)\}", lambda found: f"√{bracket(found[1])}", text)
        text = re.sub(r"([\^_])\{([^{}]*)\}", lambda found: found[1] + bracket(found[2]), text)
        text = re.sub(r"(?<!\})(?<!frac)\{([^{}]*)\}(?!\{)", r"\1", text)
        if text == before:
            break
    text = re.sub(r"\\([A-Za-z]+)", lambda found: _WORDS.get(found[1], found[1]), text)
    return re.sub(r" +", " ", text)


def terminal(page: Page) -> None:
    """Print the page with rich."""
    from rich.console import Console
    from rich.panel import Panel
    from rich.rule import Rule
    from rich.table import Table as Grid
    from rich.text import Text as Plain

    console = Console()
    console.print(Rule(page.title))
    for block in page.blocks:
        match block:
            case Text(text):
                console.print(
                    Plain("\n" + spoken(text.removeprefix("## "))),
                    style=("bold" if text.startswith("## ") else ""),
                )
            case Step(number, formula, because, check, boxed):
                console.print(
                    Plain(f"\n({number}) {spoken(because)}"), Plain(f"✓ {check}", "green")
                )
                shown = Plain(spoken(formula), "cyan")
                console.print(Panel.fit(shown) if boxed else shown)
            case Display(formula):
                console.print(Plain(spoken(formula), "cyan"))
            case Table(header, rows):
                grid = Grid(*header)
                for row in rows:
                    grid.add_row(*map(spoken, row))
                console.print(grid)
    for reference in page.references:
        console.print(Plain("\n" + reference, "dim"))


def put(path: Path, content: str | bytes) -> None:
    """Write a file completely or not at all; leave a file with this content alone."""
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and path.read_bytes() == data:
        return
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
