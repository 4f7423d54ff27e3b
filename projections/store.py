"""The projector's file: rows, position and snapshot, one transaction at a time.

Rule: everything of a commit is in the file or nothing is; after an error the same commit is tried
again or the file is given up, never half of it.

Not thread-safe: all calls come from the one DuckDB thread, except `reading`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from ..core.errors import Unavailable
from .database import (
    SCHEMA_VERSION,
    close_database,
    create_tables,
    create_views,
    explained,
    open_database,
    stored_version,
)
from .fitting import REFUSED_VALUE, fitted
from .ledger import LIVE_KEYS, Delta
from .records import Row

CHUNK_ROWS = 1000
"""Rows given to the appender at once; it holds the interpreter for their conversion, about 5 ms."""
READERS_LEAVE_S = 10.0
PREPARED_S = 10.0
KEEP_BEATS_US = 24 * 3600 * 1_000_000
TRIM_EVERY_US = 600 * 1_000_000


class Place(NamedTuple):
    """Where in which log a file stands (protocol F7)."""

    uuid: str = ""
    sequence: int = 0
    message_digest: str = ""
    """Digest of the message at `sequence`."""
    origin_sequence: int = 0
    origin_digest: str = ""
    """Digest of the message that created the pool."""


class Saved(NamedTuple):
    """A snapshot: the fold and the records beside it, at `sequence`."""

    sequence: int
    fold: bytes
    records: bytes


class Commit(NamedTuple):
    """One transaction."""

    delta: Delta
    place: Place
    saved: Saved | None = None
    beats: list[Row] = []  # noqa: RUF012  # never changed
    telemetry: int = 0
    """Telemetry sequence of the newest heartbeat; 0 leaves it."""


class Store:
    """An open projection file."""

    def __init__(self, path: Path, pool: str) -> None:
        """The file is open, new or as it was left. `outdated`: it has another schema version.

        Before anybody may read, `prepare` it: binding the views takes a while, and the first
        messages can be folded meanwhile.

        Raises `DatabaseBusy`, `DatabaseFull`, `DatabaseBroken` or `DatabaseForeign`.
        """
        self.path = path
        self._appenders: dict[str, Any] = {}
        self._trim_at = 0
        self._readers: list[duckdb.DuckDBPyConnection] = []
        self._readers_changed = threading.Condition()
        self._closing = False
        self._prepared = False
        self._connection = open_database(path)
        try:
            version = stored_version(self._connection, path, pool)
            if version is None:
                create_tables(self._connection, pool)
            self.outdated = version not in (None, SCHEMA_VERSION)
        except duckdb.Error as error:
            self.close()
            raise explained(error, path) from error
        except BaseException:
            self.close()
            raise

    def prepare(self) -> None:
        """Readers may come: the views are there. Raises like `commit`."""
        try:
            create_views(self._connection)
        except duckdb.Error as error:
            with suppress(duckdb.Error):
                self._connection.rollback()
            raise explained(error, self.path) from error
        with self._readers_changed:
            self._prepared = True
            self._readers_changed.notify_all()

    def close(self) -> None:
        """The file is free: readers are interrupted and waited for. Idempotent.

        A cursor left open would keep the file in this process, and the next connection to the same
        path would get the old file again.
        """
        with self._readers_changed:
            self._closing = True
            self._readers_changed.notify_all()
            for cursor in self._readers:
                cursor.interrupt()
            self._readers_changed.wait_for(lambda: not self._readers, READERS_LEAVE_S)
        self._appenders = {}
        close_database(self.path, self._connection)

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own that sees what is committed. Any thread, many at once.

        Raises `Unavailable` when the file is being closed; a query may then be interrupted, too.
        """
        with self._readers_changed:
            self._readers_changed.wait_for(lambda: self._prepared or self._closing, PREPARED_S)
            if self._closing or not self._prepared:
                raise Unavailable(f"{self.path} is being closed", remedy="Try again in a moment.")
            cursor = self._connection.cursor()
            self._readers.append(cursor)
        try:
            yield cursor
        finally:
            with self._readers_changed:
                self._readers.remove(cursor)
                self._readers_changed.notify_all()
                cursor.close()

    def place(self) -> Place:
        """Where the file stands."""
        rows = self._read(
            "SELECT uuid, sequence, message_digest, origin_sequence, origin_digest "
            "FROM keep.position"
        )
        return Place(*rows[0])

    def telemetry(self) -> int:
        """Telemetry sequence of the newest heartbeat in the file."""
        return int(self._read("SELECT telemetry_sequence FROM keep.position")[0][0])

    def saved(self) -> Saved | None:
        """The snapshot in the file."""
        rows = self._read("SELECT sequence, fold, records FROM keep.snapshot")
        return Saved(*rows[0]) if rows else None

    def _read(self, sql: str) -> list[Any]:
        try:
            return self._connection.execute(sql).fetchall()
        except duckdb.Error as error:
            raise explained(error, self.path) from error

    # -- writing -----------------------------------------------------------------------------------
    def commit(self, commit: Commit) -> None:
        """The commit is in the file, durable.

        Raises `DatabaseFull` (try the same commit again) or `DatabaseBroken`.
        """
        try:
            self._connection.begin()
            self._write(commit)
            self._connection.commit()
        except duckdb.Error as error:
            self._appenders = {}
            with suppress(duckdb.Error):
                self._connection.rollback()
            raise explained(error, self.path) from error

    def _write(self, commit: Commit) -> None:
        for table, change in commit.delta.live.items():
            self._delete(table, change.gone)
        for table, rows in commit.delta.facts.items():
            self._append(f"fact.{table}", rows)
        for table, change in commit.delta.live.items():
            self._append(f"live.{table}", change.rows)
        self._append("keep.heartbeats", commit.beats)
        if commit.beats:
            self._trim(commit.beats[-1][-1])
        self._execute(
            "UPDATE keep.position SET uuid = $1, sequence = $2, message_digest = $3, "
            "origin_sequence = $4, origin_digest = $5, "
            "telemetry_sequence = CASE WHEN $6 > 0 THEN $6 ELSE telemetry_sequence END",
            [*commit.place, commit.telemetry],
        )
        if commit.saved is not None:
            self._execute("DELETE FROM keep.snapshot")
            self._execute("INSERT INTO keep.snapshot VALUES (?, ?, ?)", list(commit.saved))

    def _execute(self, sql: str, values: list[Any] | None = None) -> None:
        self._connection.execute(sql, values).fetchall()

    def _delete(self, table: str, keys: list[Row]) -> None:
        if not keys:
            return
        names = LIVE_KEYS[table]
        columns = ", ".join(names)
        lists = ", ".join("unnest(?::BIGINT[])" for _ in names)
        self._execute(
            f"DELETE FROM live.{table} WHERE ({columns}) IN (SELECT {lists})",  # noqa: S608
            [list(column) for column in zip(*keys, strict=True)],
        )

    def _append(self, table: str, rows: list[Row]) -> None:
        if not rows:
            return
        appender = self._appenders.get(table)
        if appender is None:
            appender = self._appenders[table] = self._connection.appender(table)
        try:
            for start in range(0, len(rows), CHUNK_ROWS):
                appender.append_rows(rows[start : start + CHUNK_ROWS])
        except REFUSED_VALUE:
            appender.clear()
            appender.append_rows(fitted(self._connection, table, rows))
        appender.flush()

    def _trim(self, newest_us: int) -> None:
        """Heartbeats older than a day before the newest are gone; looked at every ten minutes."""
        if newest_us < self._trim_at:
            return
        self._trim_at = newest_us + TRIM_EVERY_US
        self._execute("DELETE FROM keep.heartbeats WHERE at_us < ?", [newest_us - KEEP_BEATS_US])
