"""A page as Markdown with LaTeX, and as text for a terminal."""

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
