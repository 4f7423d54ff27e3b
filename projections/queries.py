"""Read-only SQL on a projection.

Rule: one SELECT or EXPLAIN, inside a read-only transaction, within its limits, or nothing.

The statement type is not enough: DuckDB calls a SELECT that inserts in a WITH clause a SELECT. The
read-only transaction refuses what slips through, and the settings of the file (`database.SETTINGS`)
keep queries from files, the network and Python.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec

from ..core.errors import NotFound, QueryRefused
from .database import SCHEMA_VERSION, SETTINGS, explained
from .errors import DatabaseForeign

FETCH_ROWS = 1000
_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=str)
DAMAGE = "Corrupt database file"
"""How DuckDB begins to tell that a block does not match its checksum."""
ALLOWED = frozenset({duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN})


class Header(NamedTuple):
    """Names and DuckDB types of the columns."""

    columns: list[str]
    types: list[str]


class Refused(QueryRefused):
    """A query that was refused or stopped.

    `code`: request, syntax, read_only, query, rows, time, busy or damage (of the file).
    """

    def __init__(self, code: str, message: str, *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.code = code


def open_database_readonly(path: Path) -> duckdb.DuckDBPyConnection:
    """The projection file, open for reading only; close it yourself.

    Raises `NotFound`, `DatabaseBusy` (a projector holds it), `DatabaseBroken`, `DatabaseForeign`.
    """
    if not path.exists():
        raise NotFound(f"there is no file {path}", remedy="Run a projector: `dtf projector run`.")
    connection = None
    try:
        connection = duckdb.connect(str(path), read_only=True, config=SETTINGS)
        connection.execute("SET GLOBAL TimeZone = 'UTC'").fetchall()
        connection.execute("SET lock_configuration = true").fetchall()
        rows = connection.execute("SELECT schema_version FROM keep.position").fetchall()
    except duckdb.Error as error:
        if connection is not None:
            connection.close()
        if isinstance(error, duckdb.CatalogException):
            raise DatabaseForeign(f"{path} is no projection of a dtf pool") from error
        raise explained(error, path) from error
    if not rows or rows[0][0] != SCHEMA_VERSION:
        connection.close()
        raise DatabaseForeign(
            f"{path} was written by another version of dtf",
            remedy="Run a projector of this version: it rebuilds the file from the log.",
        )
    return connection


@contextmanager
def running(
    cursor: duckdb.DuckDBPyConnection, sql: str, params: Sequence[Any] | dict[str, Any] = ()
) -> Iterator[Header]:
    """The query runs on `cursor`, which gives its rows inside the block. Raises `Refused`."""
    try:
        statement = _only_statement(cursor, sql)
        cursor.execute("BEGIN TRANSACTION READ ONLY").fetchall()
        try:
            cursor.execute(statement, params)
            described = cursor.description or []
            yield Header([str(c[0]) for c in described], [str(c[1]) for c in described])
        finally:
            with suppress(duckdb.Error):
                cursor.abort()
            with suppress(duckdb.Error):
                cursor.rollback()
    except duckdb.InterruptException as error:
        raise Refused(
            "time", "the query ran past its time limit", remedy="Ask for less, or raise the limit."
        ) from error
    except duckdb.Error as error:
        if DAMAGE in str(error):
            remedy = "A projector rebuilds it from the log; by hand: `dtf projector rebuild`."
            raise Refused("damage", str(error)[:4000], remedy=remedy) from error
        raise Refused("query", str(error)[:4000], remedy=_hint(error)) from error


def _only_statement(cursor: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    try:
        statements = cursor.extract_statements(sql)
    except duckdb.Error as error:
        raise Refused("syntax", str(error)[:4000]) from error
    if len(statements) != 1:
        raise Refused(
            "read_only",
            f"one statement at a time, got {len(statements)}",
            remedy="Send one SELECT.",
        )
    if statements[0].type not in ALLOWED:
        raise Refused(
            "read_only",
            f"{statements[0].type.name} is not allowed: the history is read-only",
            remedy="Send a SELECT; DESCRIBE, SHOW TABLES and EXPLAIN work, too.",
        )
    return statements[0]


def _hint(error: duckdb.Error) -> str:
    if isinstance(error, duckdb.CatalogException | duckdb.BinderException):
        return "SHOW TABLES lists the tables, DESCRIBE <table> its columns."
    return ""


def fetch(
    cursor: duckdb.DuckDBPyConnection, rows_max: int
) -> Iterator[tuple[list[tuple[Any, ...]], bool]]:
    """The rows in parts, each with whether more than `rows_max` exist."""
    left = rows_max
    while True:
        rows = cursor.fetchmany(min(FETCH_ROWS, left + 1))
        if len(rows) > left:
            yield rows[:left], True
            return
        left -= len(rows)
        yield rows, False
        if not rows:
            return


@contextmanager
def time_limit(cursor: duckdb.DuckDBPyConnection, timeout_s: float) -> Iterator[Callable[[], None]]:
    """What `cursor` does in the block is interrupted after the limit; yields a way to do so now."""
    timer = threading.Timer(timeout_s, cursor.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield cursor.interrupt
    finally:
        timer.cancel()


def json_row(row: Sequence[Any]) -> bytes:
    """A row as JSON: times in RFC 3339, decimals as numbers, NaN as null, blobs in base64."""
    try:
        return _encoder.encode(row)
    except (TypeError, ValueError):  # a MAP with keys that JSON has not, and the like
        return _encoder.encode([_plain(value) for value in row])


def _plain(value: Any) -> Any:
    try:
        _encoder.encode(value)
    except (TypeError, ValueError):
        return str(value)
    return value


class Result(NamedTuple):
    """A whole answer. `truncated`: there are more rows than were asked for."""

    columns: list[str]
    types: list[str]
    rows: list[list[Any]]
    truncated: bool


def run_query(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    params: Sequence[Any] = (),
    *,
    rows_max: int = 10_000,
    timeout_s: float = 10.0,
) -> Result:
    """The answer of a query on an open file. Raises `QueryRefused`."""
    cursor = connection.cursor()
    try:
        with time_limit(cursor, timeout_s), running(cursor, sql, params) as header:
            rows: list[list[Any]] = []
            truncated = False
            for part, more in fetch(cursor, rows_max):
                rows += map(list, part)
                truncated = more
            return Result(header.columns, header.types, rows, truncated)
    finally:
        cursor.close()
