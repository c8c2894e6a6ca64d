"""Pages of the site that stand elsewhere in the repository, and links from pages to its files.

A page whose text is a fence ``{include} ../CONTRIBUTING.md`` shows that file. Every relative link
of a page is one that works in the repository too. On the site it leads to the page of that file,
or if it has none to the repository.
"""

import os
import re
from pathlib import Path

INCLUDE = re.compile(r"^```\{include\} (\S+)\n```$", re.MULTILINE)
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|[#/<])([^)#\s]+)((?:#[^)\s]*)?)(?=\))")
PICTURES = {".png", ".svg"}


def shown(docs: Path) -> dict[Path, Path]:
    """Return the files that pages show, with these pages."""
    return {
        (page.parent / target).resolve(): page
        for page in docs.rglob("*.md")
        for target in INCLUDE.findall(page.read_text("utf-8"))
    }


def site_text(page: Path, docs: Path, url: str) -> str:
    """Return the source of a page with what it includes, and with links of the site."""
    pages = shown(docs)

    def link(source: Path):
        def replace(found: re.Match) -> str:
            target = (source.parent / found[1]).resolve()
            target = pages.get(target, target)
            if not target.exists():
                return found[0]  # Sphinx says that it leads nowhere
            if target.is_relative_to(docs) or target.suffix in PICTURES:
                return os.path.relpath(target, page.parent) + found[2]
            kind = "tree" if target.is_dir() else "blob"
            return f"{url}/{kind}/main/{target.relative_to(docs.parent)}{found[2]}"

        return replace

    def include(found: re.Match) -> str:
        source = (page.parent / found[1]).resolve()
        return LINK.sub(link(source), source.read_text("utf-8"))

    text = page.read_text("utf-8")
    return INCLUDE.sub(include, LINK.sub(link(page), text))


def read(app, name: str, source: list[str]) -> None:
    """Replace what Sphinx has read of a page."""
    page = Path(app.env.doc2path(name))
    if page.suffix == ".md":
        source[0] = site_text(page, Path(app.srcdir).resolve(), app.config.repository_url)


def setup(app):
    """Ask Sphinx to be called for each page."""
    app.add_config_value("repository_url", "", "env")
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
