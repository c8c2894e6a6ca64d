"""The directive ``journey``: stations from top to bottom, drawn as boxes with arrows between them.

Each line is a station: ``title | what happens there | file of the repository``. A line that starts
with ``+`` stands beside the one above it. In the repository the lines read as a list.
"""

from pathlib import Path
from typing import NamedTuple


class Station(NamedTuple):
    """A box: its title, what happens there, and the file or folder that does it, or none."""

    title: str
    text: str
    file: str


def layers(lines: list[str], root: Path) -> list[list[Station]]:
    """Return the stations from top to bottom, those side by side in one list.

    Raises:
        ValueError: for a line that is no station, or a file that does not exist.
    """
    found: list[list[Station]] = []
    for line in filter(None, map(str.strip, lines)):
        title, *rest = (part.strip() for part in line.removeprefix("+").split("|"))
        if not 1 <= len(rest) <= 2:
            raise ValueError(f"A station is 'title | text' or 'title | text | file', got {line!r}.")
        station = Station(title, rest[0], rest[1] if len(rest) == 2 else "")
        if station.file and not (root / station.file).exists():
            raise ValueError(f"The station {title!r} is in {station.file}, which does not exist.")
        if line.startswith("+") and found:
            found[-1].append(station)
        else:
            found.append([station])
    return found


def setup(app):
    """Register the directive."""
    from docutils import nodes
    from docutils.statemachine import StringList
    from sphinx.util.docutils import SphinxDirective

    class Journey(SphinxDirective):
        has_content = True

        def run(self):
            root = Path(self.env.srcdir).resolve().parent
            try:
                stations = layers(list(self.content), root)
            except ValueError as problem:
                raise self.error(str(problem)) from problem
            whole = nodes.container(classes=["journey"])
            for layer in stations:
                whole += nodes.container("", *map(self.box, layer), classes=["journey-layer"])
            return [whole]

        def box(self, station: Station):
            box = nodes.container(classes=["journey-station"])
            box += nodes.paragraph("", "", nodes.strong("", station.title))
            self.state.nested_parse(StringList([station.text], "journey"), self.content_offset, box)
            if station.file:
                url = f"{self.config.repository_url}/blob/main/{station.file}"
                link = nodes.reference("", "", nodes.literal("", station.file), refuri=url)
                box += nodes.paragraph("", "", link)
            return box

    app.add_directive("journey", Journey)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
