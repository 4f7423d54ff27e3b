"""Everything about a run as one JSON document. Rule: values as the views give them."""

from __future__ import annotations

import msgspec

from .gather import RunReport

SCHEMA = "dtf.report/1"


def json_text(report: RunReport) -> str:
    """The report as indented JSON: {"schema", "run", "groups", "tasks"}."""
    told = {"schema": SCHEMA, **msgspec.to_builtins(report)}
    return msgspec.json.format(msgspec.json.encode(told), indent=2).decode() + "\n"
