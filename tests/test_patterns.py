"""Each pattern of other code bases has a line here that works, and the page shows these lines."""

import pytest
from patterns import BEGIN, END, FILE, PAGE, SECTIONS, Pattern, table

PATTERNS = {f"{title}: {p.what}": p for title, patterns in SECTIONS.items() for p in patterns}


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_has_a_line(name):
    PATTERNS[name].run()


def test_the_page_shows_the_table():
    _, shown = PAGE.read_text().split(BEGIN)
    assert shown.split(END)[0].strip() == table(), "run python tests/patterns.py"


def test_a_repository_comes_with_a_file():
    for name, pattern in PATTERNS.items():
        words = "github.com" in pattern.source or "/" not in pattern.source
        assert words != bool(FILE.match(pattern.source)), name


def test_a_line_that_does_not_do_it_is_found():
    right = PATTERNS["Kernels made of parts: zero queries"]
    right.run()
    for line, error in (("concatenate([lecun()] * 3)", AssertionError), ("qqq()", NameError)):
        with pytest.raises(error):
            Pattern(right.what, right.source, line, right.check).run()
