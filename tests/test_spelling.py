"""One spelling, the American one, in the code and in the text."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("flaxinit", "derivations", "benchmarks", "docs", "examples", "tests")
VERBS = (
    *("discret", "factor", "general", "initial", "linear", "maxim", "minim", "normal", "optim"),
    *("parametr", "rational", "recogn", "regular", "serial", "special", "standard", "summar"),
    *("vector", "visual"),
)
BRITISH = re.compile(
    rf"(?:{'|'.join(VERBS)})is(?:e|ing|ation|able)"
    r"|(?:behavi|col|fav|hon|neighb)our"
    r"|cent(?:re|ring)(?![a-z])|centred|\bgrey\b|licence|analys(?:e|ed|ing)\b"
    r"|(?:cancel|label|model|travel)l(?:ed|ing)",
    re.IGNORECASE,
)


def british(text: str) -> list[str]:
    return [match.group() for match in BRITISH.finditer(text)]


def test_spelling():
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*") if path != Path(__file__)]
    files += ROOT.glob("*.md")
    found = {
        str(path.relative_to(ROOT)): words
        for path in files
        if path.suffix in (".py", ".pyi", ".md") and (words := british(path.read_text("utf-8")))
    }
    assert not found


def test_it_can_fail():
    assert british("Initialise the neighbours' colour.") == ["Initialise", "neighbour", "colour"]
    assert not british("Initialize the neighbors' color, but promise an optimistic analysis.")
