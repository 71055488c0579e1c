"""docs/configuration.md lists every directive as the table has it.

``python -m tests.node.test_config_documentation`` brings the list up to date.
Meanings come from the comments behind the fields of cluster.settings.Settings, headings from its ``# ---`` lines.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import attrs

from cluster.node.directives import TABLE, Directive, Effect, Flag
from cluster.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENT = REPOSITORY / "docs" / "configuration.md"
BEGIN, END = "<!-- Generated from", "<!-- end -->"
HEADER = "| directive | value | default | CONFIG SET | effect | meaning |\n|---|---|---|---|---|---|"

# Directives of files alone: they are fields of Settings, but no rows of the table.
FILE_ONLY = {
    "user": ("name and rules", "works"),
    "rename_command": ("old and new name", "works"),
    "loadmodule": ("path and arguments", "remembered"),
}


TITLES = {
    "Accepted and remembered": Effect.REMEMBERED,
    "Not yet": Effect.NOT_YET,
    "Refused": Effect.REFUSED,
}
"""The lists behind the tables."""


def fields_by_heading() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """(heading, [(field, meaning)]) in the order of the source."""
    heading, open_field = "", ""
    fields: list[tuple[str, str]] = []
    for line in (REPOSITORY / "cluster" / "settings.py").read_text().splitlines():
        if match := re.fullmatch(r"    # --- (.*)", line):
            if heading:
                yield heading, fields
            heading, fields = match[1], []
        elif heading and (match := re.fullmatch(r"    (\w+): .*?(?:  # (.*))?", line)):
            open_field = match[1]
            if match[2]:
                fields.append((open_field, match[2]))
        elif heading and (match := re.fullmatch(r"    \)  # (.*)", line)):
            fields.append((open_field, match[1]))
    yield heading, fields


def row_text(row: Directive, meaning: str) -> str:
    shown = row.kind.show(getattr(Settings(), row.attribute)).decode()
    default = f"`{shown}`" if shown else "none"
    may_set = "no" if row.flags & Flag.IMMUTABLE else "protected" if row.flags & Flag.PROTECTED else "yes"
    alias = f"<br>`{row.alias}`" if row.alias else ""
    return cells(f"`{row.name}`{alias}", row.kind.label, default, may_set, row.effect.value, meaning)


def cells(*texts: str) -> str:
    return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in texts)} |"


def generated() -> str:
    """The headings and tables, and the lists of what has no effect."""
    rows = {row.attribute: row for row in TABLE}
    parts = []
    for heading, fields in fields_by_heading():
        lines = [f"### {heading}", "", *HEADER.split("\n")]
        for field, meaning in fields:
            if field in rows:
                lines.append(row_text(rows[field], meaning))
            else:
                value, file_effect = FILE_ONLY[field]
                lines.append(cells(f"`{field.replace('_', '-')}`", value, "none", "no", file_effect, meaning))
        parts.append("\n".join(lines))
    for title, effect in TITLES.items():
        names = ", ".join(f"`{row.name}`" for row in TABLE if row.effect is effect)
        parts.append(f"## {title}\n\n{textwrap.fill(names, 120, break_long_words=False, break_on_hyphens=False)}")
    return "\n\n".join(parts)


def updated(document: str) -> str:
    before, begin, rest = document.partition(BEGIN)
    comment, _, rest = rest.partition("\n")
    _, end, after = rest.partition(END)
    return f"{before}{begin}{comment}\n\n{generated()}\n\n{end}{after}"


def test_the_document_lists_the_table_as_it_is() -> None:
    document = DOCUMENT.read_text()

    assert document == updated(document), "bring it up to date: python -m tests.node.test_config_documentation"


def test_every_field_has_a_meaning() -> None:
    described = [field for _, fields in fields_by_heading() for field, _ in fields]

    assert described == [field.name for field in attrs.fields(Settings)]


def test_what_is_said_to_work_is_read_somewhere() -> None:
    """A field that no other module names cannot have an effect."""
    table = {REPOSITORY / "cluster" / "settings.py", REPOSITORY / "cluster" / "node" / "directives.py"}
    sources = [path.read_text() for path in (REPOSITORY / "cluster").rglob("*.py") if path not in table]
    words = {word for source in sources for word in re.findall(r"\w+", source)}

    assert [row.name for row in TABLE if row.effect is Effect.WORKS and row.attribute not in words] == []


def test_every_directive_is_listed_once() -> None:
    document = DOCUMENT.read_text()

    for row in TABLE:
        assert document.count(f"| `{row.name}`") == 1, row.name


if __name__ == "__main__":
    DOCUMENT.write_text(updated(DOCUMENT.read_text()))
