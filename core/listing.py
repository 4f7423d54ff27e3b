"""What a command has to say, apart from how it looks. Rule: commands return, the root renders.

A `Listing` is a table, a `Record` one thing with its parts. Both know their kind, which names the
JSON schema ("dtf.<kind>/1"). Cells are plain values in the unit their column says; unknown is None,
never a made-up number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct

CellKind = Literal[
    "text", "id", "verdict", "state", "count", "number", "duration_us", "bytes",
    "time_ns", "age_ms", "json",
]  # fmt: skip
"""How a cell is shown to people; machine formats get the value itself.

`time_ns` is a Unix time in nanoseconds (shown as an age), `age_ms` an age in milliseconds, `json`
any JSON value.
"""


class Column(Struct, frozen=True, kw_only=True):
    """One column: `name` is its key in JSON and CSV, `title` what people read."""

    name: str
    title: str = ""
    kind: CellKind = "text"
    wide: bool = False
    """Left out on narrow terminals; always part of machine formats."""
    flexible: bool = False
    """Shortened first when the line is too long."""
    wraps: bool = False
    """Continued on the next line instead of being shortened: for sentences."""

    @property
    def heading(self) -> str:
        return self.title or self.name.replace("_", " ")


class Listing(Struct, kw_only=True):
    """Rows of one kind. `notes` are said on stderr, after the rows, to people only."""

    kind: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    empty: str = ""
    """Said on stderr instead of an empty table, with what to do next."""
    notes: Sequence[str] = ()
    exit_code: int = 0


class Field(Struct, frozen=True):
    """One line of a record."""

    name: str
    value: Any
    kind: CellKind = "text"
    title: str = ""

    @property
    def heading(self) -> str:
        return self.title or self.name.replace("_", " ")


class Record(Struct, kw_only=True):
    """One thing: its fields, then listings of its parts (in JSON, lists under their kinds)."""

    kind: str
    title: str = ""
    fields: Sequence[Field] = ()
    parts: Sequence[Listing] = ()
    text: str = ""
    """Shown last, as it is: the end of an output."""
    notes: Sequence[str] = ()
    exit_code: int = 0
