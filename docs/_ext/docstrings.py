"""Docstrings as the reference shows them: an indented block is an equation or code, as written."""

import re

# A literal or a link, or else a bar, which reStructuredText would take for a substitution.
_BAR = re.compile(r"(``.*?``|`[^`]*`)|\|")


def literal_blocks(lines: list[str]) -> list[str]:
    """Mark each indented block of the description as literal; sections of arguments stay."""
    out: list[str] = []
    for i, line in enumerate(lines):
        if line and not line[0].isspace() and line.endswith(":") and line[:-1].isidentifier():
            return out + lines[i:]
        starts = line.startswith("    ") and i and not lines[i - 1]
        before = next((each for each in reversed(out) if each), "")
        if starts and not before.startswith(("    ", "- ", "  ")) and not before.endswith("::"):
            out += ["::", ""]
        out.append(line)
    return out


def process(app, what, name, obj, options, lines: list[str]) -> None:
    """Rewrite a docstring in place, before its sections are read."""
    escaped = [_BAR.sub(lambda found: found[1] or r"\|", line) for line in lines]
    lines[:] = literal_blocks(escaped)


def setup(app):
    """Come before Napoleon, which reads the sections."""
    app.connect("autodoc-process-docstring", process, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
