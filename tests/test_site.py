"""The site: its examples run, its links lead somewhere, and every public name has its entry.

`make docs` builds it, and there `docs/check.py` looks at what was built.
"""

import doctest
import importlib.util
import inspect
import re
import sys
import tomllib
from pathlib import Path

import pytest
import stacks

import flaxinit
from flaxinit import recipes, theory

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
URLS = PROJECT["urls"]
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
# Pages that others write and test: the book (test_book), the cookbook of code bases (test_docs).
OWN = [path for path in PAGES if path.parent.name != "book"]
# Their models are compiled, which takes more than a few seconds of a processor.
SLOW = {"cookbook.md", "models.md", "notebooks/activation.md", "notebooks/transformer.md"}
FENCE = re.compile(r"^```(?:python|\{code-cell\}[^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
OPTION = re.compile(r"^:[\w-]+:.*\n", re.MULTILINE)
ENTRY = re.compile(
    r"^\.\. (?:auto)?(?:function|class|data|exception):: (flaxinit\.\S+)", re.MULTILINE
)
# Values, adapters and what moves other initializers about: there is nothing to compute.
WITHOUT_EQUATION = {"get", "for_haiku", "for_keras", "reinit", "fast_init", "stack"}


# Each name that a user may write, with its value.
PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (flaxinit, recipes)
    for name in module.__all__
}
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()


def load(path: Path):
    """Import a script of the site; none of them needs Sphinx before it builds."""
    specification = importlib.util.spec_from_file_location(f"site_{path.stem}", path)
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


check = load(DOCS / "check.py")
mathml = load(DOCS / "_ext" / "mathml.py")
repository = load(DOCS / "_ext" / "repository.py")
docstrings = load(DOCS / "_ext" / "docstrings.py")
journey = load(DOCS / "_ext" / "journey.py")


def pages_with_examples():
    for page in OWN:
        text, name = page.read_text(), str(page.relative_to(DOCS))
        if FENCE.search(text) or ">>>" in text:
            yield pytest.param(page, id=name, marks=[pytest.mark.slow] if name in SLOW else [])


@pytest.mark.parametrize("page", list(pages_with_examples()))
def test_the_examples_of_a_page_run(page, monkeypatch, tmp_path):
    """Top to bottom, as a reader would paste them; ``>>>`` also prints what the page says."""
    monkeypatch.chdir(tmp_path)
    text, namespace = page.read_text(), {"__name__": "__main__"}
    for block in FENCE.findall(text):
        if ">>>" not in block:
            exec(compile(OPTION.sub("", block), str(page), "exec"), namespace)
    examples = doctest.DocTestParser().get_doctest(
        text.replace("```", "\n"), {"flaxinit": flaxinit, **namespace}, page.name, str(page), 0
    )
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert runner.run(examples).failed == 0


def entries() -> list[str]:
    return [
        name
        for page in (DOCS / "reference").glob("*.md")
        for name in ENTRY.findall(page.read_text())
    ]


def test_every_public_name_has_one_entry():
    listed = entries()
    assert len(set(listed)) == len(listed)
    exported = {name for name, value in vars(theory).items() if not isinstance(value, type(sys))}
    of_theory = {name for name in exported - set(flaxinit.__all__) if not name.startswith("_")}
    names = {*PUBLIC, *(f"flaxinit.theory.{name}" for name in of_theory)}
    missing = sorted(names - set(listed))
    assert not missing, f"add to a page of docs/reference: .. autofunction:: {missing[0]}"


def equations(docstring: str) -> list[str]:
    """Return the equations of a description: literals and indented lines with a formula's signs."""
    description = re.split(r"^(?:\w+:|>>>.*)$", inspect.cleandoc(docstring), flags=re.MULTILINE)[0]
    literals = re.findall(r"``([^`]+)``|^ +(.+)$", description, re.MULTILINE)
    return [a or b for a, b in literals if re.search(r" [=≈~] .*\w|[√²·]|\w/\w|\^\(", a or b)]


@pytest.mark.parametrize("name", [name for name in PUBLIC if name.rpartition(".")[2].islower()])
def test_a_docstring_has_an_example_and_an_equation(name):
    text = PUBLIC[name].__doc__ or ""
    assert ">>>" in text
    named = text.startswith("Return `")  # which has the equation
    assert named or name.removeprefix("flaxinit.") in WITHOUT_EQUATION or equations(text)


def test_prose_has_no_equation():
    assert not equations("Draw it, as ``lecun`` does.\n\nArgs:\n    a: ``b = 1``.")
    assert equations("Draw.\n\n    Var W = 1 / fan_in\n\nIt is.") == ["Var W = 1 / fan_in"]


def in_the_repository(link: str, page: Path) -> tuple[Path, str] | None:
    """Return the file and the anchor that a link of a page means; None if it leaves the project."""
    address, _, anchor = link.partition("#")
    source, site = URLS["Source"], URLS["Documentation"]
    if address.startswith(site):
        name = address.removeprefix(site) or "index.html"
        return DOCS / Path(name).with_suffix(".md"), ""  # `make docs` checks anchors
    raw = source.replace("github.com", "raw.githubusercontent.com")
    found = re.match(rf"(?:{source}/(?:blob|tree|raw)/main|{raw}/main)/(.*)", address)
    if found:
        return ROOT / found[1], anchor
    if re.match(r"\w+:", link):
        return None
    return (page.parent / address if address else page), anchor


def links(page: Path) -> list[str]:
    """Return where the links and pictures of a page lead; its code has none."""
    text = re.sub(r"^```.*?^```|`[^`]*`", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"\]\(([^)\s]+)\)|(?:href|src|srcset)=\"([^\"]+)\"", text)
    return [a or b for a, b in found]


def test_the_readme_leads_everywhere_from_anywhere():
    """A package index shows it too, and knows no files of the repository."""
    assert all(link.startswith(("https://", "#")) for link in links(ROOT / "README.md"))


def headings(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


TEXTS = [*ROOT.glob("*.md"), *PAGES, *ROOT.glob("benchmarks/**/*.md"), ROOT / "tests" / "README.md"]


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_inside_leads_somewhere(page):
    for link in links(page):
        target = in_the_repository(link, page)
        if target:
            file, anchor = target
            assert file.exists(), f"{page.name} leads to {link}"
            assert not anchor or anchor in headings(file), f"{page.name} leads to {link}"


QUOTED = re.compile(r"^( *)```python\n *# (\S+/\S+)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    ("file", "code"),
    [pytest.param(file, code, id=file) for _, file, code in QUOTED.findall(CONTRIBUTING)],
)
def test_contributing_quotes_the_code(file, code):
    """Line by line, in order; what is left out between them is left out."""
    source = iter([line.strip() for line in (ROOT / file).read_text().splitlines()])
    for line in filter(None, map(str.strip, code.splitlines())):
        assert line in source, f"{file} does not have {line!r}"


def test_all_code_of_contributing_is_quoted():
    assert len(QUOTED.findall(CONTRIBUTING)) == CONTRIBUTING.count("```python") >= 8


def test_the_version_and_the_address_are_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {PROJECT['version']}\n" in citation
    assert f"\nrepository-code: {URLS['Source']}\n" in citation
    assert f"\nurl: {URLS['Documentation']}\n" in citation
    assert re.search(rf"^## (?:Unreleased|{PROJECT['version']}\b)", CHANGELOG, re.MULTILINE)


@pytest.mark.parametrize(
    "file", [*TEXTS, *ROOT.glob(".github/**/*.yml")], ids=lambda file: file.name
)
def test_no_other_address_is_given_for_the_project(file):
    written = re.findall(r"https://[\w./-]*\bflaxinit\b[\w./-]*", file.read_text())
    ours = (URLS["Source"], URLS["Documentation"].rstrip("/"), "https://pypi.org/project/flaxinit")
    raw = URLS["Source"].replace("github.com", "raw.githubusercontent.com")
    assert all(address.startswith((*ours, raw)) for address in written), written


def test_the_tested_pythons_are_the_ones_that_are_named():
    python = "Programming Language :: Python :: 3."
    named = {each.removeprefix(python) for each in PROJECT["classifiers"] if python in each}
    assert {f"3.{minor}" for minor in named} == {stack.python for stack in stacks.STACKS}


def site(folder: Path, body: str, head: str = "") -> dict:
    """Write a site of one page, and return what `check` reads of it."""
    page = folder / "index.html"
    page.write_text(f"<html><head>{head}</head><body id='top'>{body}</body></html>")
    return {page: check.Page(page)}


def test_a_page_that_needs_the_network_is_found(tmp_path):
    script = "<script src='https://cdn.example/katex.js'></script>"
    assert len(check.network(site(tmp_path, "", script))) == 1
    (tmp_path / "site.css").write_text("@font-face { src: url(//fonts.example/a.woff2) }")
    styled = site(tmp_path, "", "<link rel='stylesheet' href='site.css'>")
    assert len(check.network(styled)) == 1
    elsewhere = "<a href='https://example.org'>a link</a><img src='data:image/png;base64,AA'>"
    assert not check.network(site(tmp_path, elsewhere, "<link rel='next' href='a.html'>"))


def test_a_heavy_page_is_found(tmp_path):
    (tmp_path / "plot.png").write_bytes(bytes(900))
    pages = site(tmp_path, "<img src='plot.png'>")
    assert check.heavy(pages, 900) and not check.heavy(pages, 1100)


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    good = "<a href='#top'>up</a><a href='index.html#top'>up</a>"
    assert not check.broken(site(tmp_path, good))
    for bad in ("other.html", "#nowhere", "index.html#nowhere"):
        assert len(check.broken(site(tmp_path, f"<a href='{bad}'>a link</a>"))) == 1
    assert check.problems(tmp_path / "empty", []) and check.problems(tmp_path, ["he"])


def test_a_formula_that_was_not_read_is_found(tmp_path):
    assert check.unread(site(tmp_path, r"<p>so $$q = 1$$</p>"))
    assert check.unread(site(tmp_path, r"<p>$\mathbb{E}$</p>"))
    assert not check.unread(site(tmp_path, r"<code>$$ \mathbb{E}</code><p>It costs $1.</p>"))


def test_two_pages_of_one_title_are_found(tmp_path):
    pages = site(tmp_path, "", "<title>Models</title>")
    assert not check.same_title(pages)
    other = tmp_path / "other.html"
    other.write_text("<title>Models</title><svg><title>a drawing</title></svg>")
    assert len(check.same_title({**pages, other: check.Page(other)})) == 1
    other.write_text("<title>Theory: models</title>")
    assert not check.same_title({**pages, other: check.Page(other)})


def test_an_example_that_is_read_as_quotations_is_found(tmp_path):
    quote = "<blockquote>" * 3 + "<p>f(1)</p>" + "</blockquote>" * 3
    assert check.unfenced(site(tmp_path, quote))
    assert check.unfenced(site(tmp_path, "<p>&gt;&gt;&gt; f(1)</p>"))
    once = "<blockquote><p>a</p></blockquote>" * 3
    assert not check.unfenced(site(tmp_path, f"{once}<pre>&gt;&gt;&gt; f(1)</pre>"))


def test_mathml_core_has_what_the_book_writes():
    """Alphabets of Unicode, bars and signs without spaces, a space beside a function's name."""
    made = mathml.core(
        '<mi mathvariant="double-struck">E</mi><mo fence="true">[</mo><mo>−</mo><mi>x</mi>'
        '<mo fence="true">]</mo><mi>sin</mi><mo>\u2061</mo><mi>x</mi>'
        '<mi mathvariant="normal">∣</mi>'
    )
    assert made.startswith('<mi>𝔼</mi><mo stretchy="false" lspace="0" rspace="0">[</mo>')
    assert '<mo form="prefix">−</mo>' in made and "double-struck" not in made
    assert re.search(r"<mi>sin</mi><mspace [^>]*></mspace><mi>x</mi>", made)
    assert made.endswith('<mo stretchy="false" lspace="0" rspace="0">|</mo>')
    high = '<mo fence="true">(</mo><mfrac><mi>a</mi><mi>b</mi></mfrac><mo fence="true">)</mo>'
    assert mathml.core(high).count('stretchy="true"') == 2


def test_a_page_shows_a_file_of_the_repository(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (tmp_path / "TEXT.md").write_text("[page](docs/page.md) [code](tool.py) [self](TEXT.md#a)")
    (tmp_path / "tool.py").touch()
    (docs / "page.md").write_text("[code](../tool.py), [more](https://example.org)")
    (docs / "text.md").write_text("```{include} ../TEXT.md\n```\n")
    url = "https://host/project"
    assert repository.site_text(docs / "text.md", docs, url) == (
        f"[page](page.md) [code]({url}/blob/main/tool.py) [self](text.md#a)\n"
    )
    assert f"[code]({url}/blob/main/tool.py)" in repository.site_text(docs / "page.md", docs, url)


def test_stations_stand_below_or_beside_each_other(tmp_path):
    (tmp_path / "a.py").touch()
    first, second = journey.layers(["A | it | a.py", "", "B | is", "+ C | so"], tmp_path)
    assert first == [("A", "it", "a.py")] and [box.title for box in second] == ["B", "C"]
    with pytest.raises(ValueError, match=r"'A' is in b\.py, which does not exist"):
        journey.layers(["A | it | b.py"], tmp_path)
    with pytest.raises(ValueError, match="A station is"):
        journey.layers(["A"], tmp_path)


def test_an_indented_block_is_shown_as_written():
    lines = ["Say so.", "", "    E = m", "    F = a", "", "More:", "", "Args:", "    a: b"]
    shown = ["Say so.", "", "::", "", *lines[2:]]
    assert docstrings.literal_blocks(lines) == shown
    assert docstrings.literal_blocks(shown) == shown


def test_the_examples_of_the_scripts_run():
    assert doctest.testmod(check).failed == 0 < doctest.testmod(check).attempted


def test_cells_of_notebooks_are_found():
    text = "```{code-cell} ipython3\n:tags: [a]\nx = 1\n```\n\nText\n\n```python\ny = 2\n```\n"
    first, second = FENCE.findall(text)
    assert OPTION.sub("", first) == "x = 1\n" and second == "y = 2\n"
    assert all(FENCE.search(page.read_text()) for page in DOCS.glob("notebooks/*.md"))
    assert {str(page.relative_to(DOCS)) for page in OWN} >= SLOW
