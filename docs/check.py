"""What the built site promises: it needs no network, its pages are light, its links lead somewhere.

`build.py` runs these checks on the finished pages, where Sphinx cannot.
"""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

MEGABYTE = 1_000_000
# Elements that make a browser load something, and the attribute that says what.
_LOADS = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href"}
_LITERAL = {"code", "pre", "script", "style", "title"}
# What a formula looks like that was not read.
_LATEX = re.compile(r"\$\$|\\(?:[a-zA-Z]+[{^_]|left|right|tag|frac|sqrt|thinspace)")
_STYLE_URL = re.compile(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)")


class Page(HTMLParser):
    """A page: what it loads, where its links lead, and its anchors."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        self.loads: list[str] = []
        self.pictures: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.prose: list[str] = []
        self.title = ""
        self.quotes = 0  # the most quotations inside each other
        self._quotes = 0
        self._literal: list[str] = []  # the open elements whose text is shown as written
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        """Note an element."""
        values = dict(attrs)
        if tag in _LITERAL:
            self._literal.append(tag)
        if tag == "blockquote":
            self._quotes += 1
            self.quotes = max(self.quotes, self._quotes)
        self.anchors |= {value for name in ("id", "name") if (value := values.get(name))}
        # Links to other pages of the site in the head load nothing.
        if tag == "link" and values.get("rel") not in ("stylesheet", "icon", "preload"):
            return
        if target := values.get(_LOADS.get(tag, "")):
            self.loads.append(target)
            if tag == "img":
                self.pictures.append(target)
        elif tag == "a" and (target := values.get("href")):
            self.links.append(target)

    def handle_endtag(self, tag):
        """Note the end of an element."""
        self._quotes -= tag == "blockquote"
        if self._literal and self._literal[-1] == tag:
            self._literal.pop()

    def handle_data(self, data):
        """Note the title, and text that is neither code nor style."""
        if self._literal == ["title"] and not self.title:  # a drawing may have one too
            self.title = data
        if not self._literal:
            self.prose.append(data)

    def resolve(self, target: str) -> Path:
        """Return the file that a relative address names."""
        return (self.path.parent / unquote(urlsplit(target).path)).resolve()


def local(target: str) -> bool:
    """Whether an address needs no network.

    >>> local("_static/site.css"), local("data:image/png;base64,AA"), local("//cdn.org/a.js")
    (True, True, False)
    """
    address = urlsplit(target)
    return not address.netloc and address.scheme in ("", "data")


def style_loads(path: Path) -> list[str]:
    """Return what a style sheet loads."""
    found = _STYLE_URL.findall(path.read_text("utf-8"))
    return [a or b for a, b in found if not (a or b).startswith("#")]


def network(pages: dict[Path, Page]) -> list[str]:
    """Return a line for each thing that a browser would fetch from elsewhere."""
    loads = [(page.path, target) for page in pages.values() for target in page.loads]
    styles = {page.resolve(t) for page in pages.values() for t in page.loads if local(t)}
    loads += [(s, t) for s in styles if s.suffix == ".css" for t in style_loads(s)]
    return [f"{path} loads {target}" for path, target in loads if not local(target)]


def heavy(pages: dict[Path, Page], limit: int = MEGABYTE) -> list[str]:
    """Return a line for each page that is larger, with its pictures, than the limit."""
    found = []
    for path, page in pages.items():
        pictures = {page.resolve(target) for target in page.pictures if local(target)}
        size = sum(file.stat().st_size for file in (path, *pictures) if file.is_file())
        if size > limit:
            found.append(f"{path} has {size:,} bytes with its pictures")
    return found


def broken(pages: dict[Path, Page]) -> list[str]:
    """Return a line for each link to a page, file or anchor of the site that does not exist."""
    found = []
    for page in pages.values():
        for target in page.links + page.loads:
            if not local(target) or target.startswith("data:"):
                continue
            file = page.resolve(target) if urlsplit(target).path else page.path
            anchor = unquote(urlsplit(target).fragment)
            if not file.exists():
                found.append(f"{page.path} leads to {target}, which does not exist")
            elif anchor and file in pages and anchor not in pages[file].anchors:
                found.append(f"{page.path} leads to {target}, where nothing has that name")
    return found


def unread(pages: dict[Path, Page]) -> list[str]:
    """Return a line for each page that shows a formula as LaTeX."""
    found = ((page.path, _LATEX.search("".join(page.prose))) for page in pages.values())
    return [
        f"{path} shows the LaTeX {latex.string[latex.start() :][:40]!r}"
        for path, latex in found
        if latex
    ]


def unfenced(pages: dict[Path, Page]) -> list[str]:
    """Return a line for each page that shows an example as text: Markdown takes >>> for quotes."""
    return [
        f"{path} shows an example as text. Put >>> in a fence: ```python"
        for path, page in pages.items()
        if page.quotes >= 3 or ">>>" in "".join(page.prose)
    ]


def same_title(pages: dict[Path, Page]) -> list[str]:
    """Return a line for each page that has the title of another: a search shows titles."""
    of: dict[str, Path] = {}
    twice = [(page, of.setdefault(page.title, page.path)) for page in pages.values()]
    return [
        f"{page.path} has the title {page.title!r} of {first}"
        for page, first in twice
        if first != page.path
    ]


def without_entry(pages: dict[Path, Page], names: list[str]) -> list[str]:
    """Return a line for each public name that has no entry in the reference."""
    anchors = {anchor for page in pages.values() for anchor in page.anchors}
    missing = [name for name in names if f"flaxinit.{name}" not in anchors]
    return [f"flaxinit.{name} has no entry in docs/reference" for name in missing]


def problems(site: Path, names: list[str]) -> list[str]:
    """Return a line for each thing that is wrong with a built site."""
    pages = {path: Page(path) for path in sorted(site.resolve().rglob("*.html"))}
    if not pages:
        return [f"{site} has no pages"]
    found = [*network(pages), *heavy(pages), *broken(pages), *unread(pages)]
    found += [*unfenced(pages), *same_title(pages)]
    return found + without_entry(pages, names)
