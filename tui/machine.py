"""Listings and records for programs. Rule: values as they are, schema named, nothing cut."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import msgspec

from ..core.listing import Listing, Record
from ..core.session import Format


def schema_name(kind: str) -> str:
    """The schema a kind of output follows."""
    return f"dtf.{kind}/1"


def listing_text(listing: Listing, form: Format) -> str:
    """The listing as JSON, JSON lines, CSV or a Markdown table, with a newline at its end."""
    if form == "csv":
        return _csv(listing)
    if form == "md":
        return _markdown(listing)
    schema = schema_name(listing.kind)
    if form == "jsonl":
        return "".join(_line({"schema": schema, **row}) + "\n" for row in _objects(listing))
    return _pretty({"schema": schema, "rows": list(_objects(listing))})


def record_text(record: Record, form: Format) -> str:
    """The record as one JSON object (one line with jsonl), CSV pairs or Markdown."""
    if form in ("json", "jsonl"):
        value: dict[str, Any] = {"schema": schema_name(record.kind)}
        value.update({field.name: field.value for field in record.fields})
        value.update({part.kind: list(_objects(part)) for part in record.parts})
        if record.text:
            value["text"] = record.text
        return _pretty(value) if form == "json" else _line(value) + "\n"
    chunks = [_pairs(record, form)]
    chunks += [listing_text(part, form) for part in record.parts if part.rows]
    if record.text and form == "md":
        chunks.append(f"```text\n{record.text.rstrip()}\n```\n")
    return "\n".join(chunks)


def _objects(listing: Listing) -> Iterator[dict[str, Any]]:
    names = [column.name for column in listing.columns]
    return (dict(zip(names, row, strict=True)) for row in listing.rows)


def _line(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def _flat(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _line(value)


def _csv(listing: Listing) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.name for column in listing.columns])
    writer.writerows([_flat(value) for value in row] for row in listing.rows)
    return out.getvalue()


def _markdown(listing: Listing) -> str:
    lines = [_row([column.heading for column in listing.columns])]
    lines.append("|" + " --- |" * len(listing.columns))
    lines += [_row([_flat(value) for value in row]) for row in listing.rows]
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    kept = (cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ") for cell in cells)
    return "| " + " | ".join(kept) + " |"


def _pairs(record: Record, form: Format) -> str:
    from ..core.listing import Column

    rows = [[field.name, field.value] for field in record.fields]
    columns = [Column(name="field"), Column(name="value")]
    return listing_text(Listing(kind=record.kind, columns=columns, rows=rows), form)
