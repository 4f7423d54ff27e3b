"""docs/reference/tables.md, from projections/schema.sql and views.sql."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from .source import escape, table

SQL = Path(__file__).parents[2] / "projections"
SECTION = re.compile(r"^-- == (.+?) =+$")
VIEW = re.compile(r"^CREATE VIEW (\w+) AS")
INTRODUCTION = """# Tables

What `dtf sql` and the query service answer from. These views are the interface; the tables below
them (`projections/schema.sql`) are not, and may change. `seq` and `idx` are the position in the log
of the event that a row comes from. Times are the server's, in UTC. `*_us` are microseconds. What is
unknown is NULL.
"""


def page() -> str:
    with duckdb.connect() as database:
        for file in ("schema.sql", "views.sql"):
            database.execute((SQL / file).read_text())
        parts = [INTRODUCTION]
        for section, view, words in _views((SQL / "views.sql").read_text()):
            if section:
                parts.append(f"## {section[0].upper()}{section[1:]}\n")
            parts.append(f"### {view}\n")
            if words:
                parts.append(escape(words) + "\n")
            described = database.execute(f"DESCRIBE {view}").fetchall()
            parts.append(table(["column", "type"], [[f"`{c[0]}`", c[1]] for c in described]) + "\n")
    return "\n".join(parts)


def _views(text: str) -> list[tuple[str, str, str]]:
    """(section or "" when it goes on, view, the comment right above it) in the file's order."""
    found: list[tuple[str, str, str]] = []
    section, words = "", list[str]()
    for line in text.splitlines():
        heading, view = SECTION.match(line), VIEW.match(line)
        if heading:
            section, words = heading[1], []
        elif view:
            found.append((section, view[1], " ".join(words)))
            section, words = "", []
        elif line.startswith("-- "):
            words.append(line[3:])
        elif not line or line.startswith("CREATE"):
            words = []
    return found
