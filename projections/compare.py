"""Whether two projections hold the same rows. Rule: order never counts, duplicates do."""

from __future__ import annotations

import duckdb


def table_hashes(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Rows and a hash over them for each table: "<rows>:<hash>", independent of their order.

    Heartbeats, position and snapshot are left out: they are not a function of the log alone. Hashes
    of one DuckDB version compare with each other only.
    """
    tables = connection.execute(
        "SELECT schema_name || '.' || table_name FROM duckdb_tables() "
        "WHERE schema_name IN ('fact', 'live') ORDER BY 1"
    ).fetchall()
    return {name: _hash(connection, name) for (name,) in tables}


def _hash(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    rows = connection.execute(
        f"SELECT count(*), coalesce(sum(hash(t)::HUGEINT), 0) FROM {table} t"  # noqa: S608
    ).fetchall()
    count, total = rows[0]
    return f"{count}:{total % 2**64:016x}"


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Names of the tables that differ."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
