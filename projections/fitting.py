"""Values that a column cannot hold. Rule: such a value becomes unknown, never the end of a fold.

The fold bounds what it accepts, so this is a second line: a subject with bytes that are no UTF-8, a
number that a later event version allows to be larger.
"""

from __future__ import annotations

from typing import Any

import duckdb

from .records import Row

REFUSED_VALUE = (
    duckdb.ConversionException,
    duckdb.InvalidInputException,
    duckdb.OutOfRangeException,
)
_BOUNDS = {"INTEGER": 2**31, "BIGINT": 2**63}


def fitted(connection: duckdb.DuckDBPyConnection, table: str, rows: list[Row]) -> list[Row]:
    """The rows with every value the table's columns cannot hold replaced by None."""
    schema, _, name = table.partition(".")
    types = connection.cursor().execute(
        "SELECT data_type FROM duckdb_columns() WHERE schema_name = ? AND table_name = ? "
        "ORDER BY column_index",
        [schema, name],
    )
    kinds = [str(kind) for (kind,) in types.fetchall()]
    return [tuple(map(_fit, row, kinds)) for row in rows]


def _fit(value: Any, kind: str) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int) and kind in _BOUNDS:
        bound = _BOUNDS[kind]
        return value if -bound <= value < bound else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_fit(each, kind.removesuffix("[]")) for each in value]
    return value
