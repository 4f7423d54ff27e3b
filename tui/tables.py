"""Listings and records for people. Rule: a narrow terminal loses columns, never rows or meaning."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..core.listing import CellKind, Column, Field, Listing, Record
from . import formats
from .console import ascii_only
from .fitting import GAP, fit
from .glyphs import look, mark

FLEXIBLE_SHOWN = 20
"""Characters of a name that are worth more than a further column."""
_RIGHT: frozenset[CellKind] = frozenset({"count", "number", "duration_us", "bytes"})


def show_listing(console: Console, listing: Listing, *, now_ns: int | None = None) -> None:
    """The rows are on the console as an aligned table with headings."""
    console.print(listing_table(console, listing, now_ns=now_ns))


def listing_table(console: Console, listing: Listing, *, now_ns: int | None = None) -> Table:
    """The listing as a borderless table that fits the console."""
    now = time.time_ns() if now_ns is None else now_ns
    plain = ascii_only(console)
    cells = [
        [
            cell(value, column.kind, now, plain)
            for value, column in zip(row, listing.columns, strict=True)
        ]
        for row in listing.rows
    ]
    widths = _natural_widths(listing.columns, cells)
    shown = _shown(listing.columns, widths, console.width)
    flexible = [listing.columns[place].flexible or listing.columns[place].wraps for place in shown]
    fitted = fit([widths[place] for place in shown], flexible, console.width)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for place, width in zip(shown, fitted, strict=True):
        column = listing.columns[place]
        table.add_column(
            column.heading,
            justify="right" if column.kind in _RIGHT else "left",
            no_wrap=not column.wraps,
            overflow="fold" if column.wraps else "ellipsis",
            width=width,
        )
    for line in cells:
        table.add_row(*(line[place] for place in shown))
    return table


def _natural_widths(columns: Sequence[Column], cells: Sequence[Sequence[Text]]) -> list[int]:
    """The width each column would like to have."""
    widths = [len(column.heading) for column in columns]
    for line in cells:
        widths = [max(known, text.cell_len) for known, text in zip(widths, line, strict=True)]
    return widths


def _shown(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int]:
    """The places of the columns to show: `wide` ones go, from the right, while the line is too
    long even with names shortened.
    """
    shown = list(range(len(columns)))

    def length() -> int:
        least = [
            min(widths[p], FLEXIBLE_SHOWN) if columns[p].flexible or columns[p].wraps else widths[p]
            for p in shown
        ]
        return sum(least) + GAP * (len(least) - 1)

    for place in reversed(range(len(columns))):
        if columns[place].wide and length() > room:
            shown.remove(place)
    return shown


def cell(value: Any, kind: CellKind, now_ns: int, plain: bool) -> Text:
    """One value as people read it."""
    if value is None:
        return Text(formats.UNKNOWN, style="dim")
    if kind in ("verdict", "state"):
        return state_text(str(value), plain)
    return Text(_plain_text(value, kind, now_ns, plain))


def _plain_text(value: Any, kind: CellKind, now_ns: int, plain: bool) -> str:
    match kind:
        case "id":
            return formats.short_run(str(value))
        case "count" | "number":
            return formats.number(value) if isinstance(value, (int, float)) else str(value)
        case "duration_us":
            return formats.duration(value, ascii_only=plain)
        case "bytes":
            return formats.size(value)
        case "time_ns":
            return formats.ago(value, now_ns)
        case "age_ms":
            return formats.span(value / 1000)
        case _:
            return value if isinstance(value, str) else compact(value)


def compact(value: Any) -> str:
    """Any JSON value on one line; a flat object as `a=1 b=x`."""
    if isinstance(value, dict):
        return " ".join(f"{key}={compact(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(compact(item) for item in value)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def state_text(name: str, plain: bool) -> Text:
    """Mark and word of a verdict or state, coloured."""
    seen = look(name)
    return Text(f"{mark(name, ascii_only=plain)} {seen.word}", style=seen.style)


def show_record(console: Console, record: Record, *, now_ns: int | None = None) -> None:
    """Title, fields, parts and text of a record are on the console."""
    console.print(record_view(console, record, now_ns=now_ns))


def record_view(console: Console, record: Record, *, now_ns: int | None = None) -> Group:
    """Title, fields, parts and text of a record, one below the other."""
    now = time.time_ns() if now_ns is None else now_ns
    blocks: list[RenderableType] = []
    if record.title:
        blocks.append(Text(record.title, style="bold"))
    if record.fields:
        blocks.append(_fields_table(console, record.fields, now))
    for part in record.parts:
        if part.rows:
            heading = Text(f"\n{_words(part.kind)}", style="bold")
            blocks += [heading, listing_table(console, part, now_ns=now)]
        elif part.empty:
            blocks.append(Text(f"\n{_words(part.kind)}: {part.empty}", style="dim"))
    if record.text:
        blocks += [Text(""), Text(record.text)]
    return Group(*blocks)


def _fields_table(console: Console, fields: Sequence[Field], now_ns: int) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    plain = ascii_only(console)
    for field in fields:
        if field.value is None and field.kind != "verdict":
            continue
        table.add_row(field.heading, cell(field.value, field.kind, now_ns, plain))
    return table


def _words(kind: str) -> str:
    """The heading of a part: `device_list` is "devices" to people."""
    return f"{kind.removesuffix('_list')}s" if kind.endswith("_list") else kind.replace("_", " ")
