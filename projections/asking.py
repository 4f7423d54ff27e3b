"""Where commands of this room get rows: the query service where one answers, else the file.

Rule: both give the same JSON values. The service is asked first: it alone has the file while a
projector runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from ..core.errors import NotFound, Unavailable, UserError
from ..core.pool_file import find_pool_file
from ..core.pool_lock import reading
from ..core.query import QueryRequest, Table, ask_query
from .database import database_path

if TYPE_CHECKING:
    import duckdb

    from ..core.client import Client
    from ..core.config import Config

ROWS_MAX = 1_000_000
TIMEOUT_S = 60.0


class Asking(Protocol):
    """Somebody who answers SQL."""

    async def table(
        self, sql: str, *params: Any, rows_max: int = ROWS_MAX, timeout_s: float = TIMEOUT_S
    ) -> Table:
        """The whole answer. Raises `QueryRefused` and `Unavailable`."""
        ...


class AskService:
    """Asks the query service of a client's pool, about the log as it is now or newer."""

    def __init__(self, client: Client, at_least: int = 0) -> None:
        self._client = client
        self._at_least = at_least

    async def table(
        self, sql: str, *params: Any, rows_max: int = ROWS_MAX, timeout_s: float = TIMEOUT_S
    ) -> Table:
        request = QueryRequest(
            sql=sql,
            params=params,
            rows_max=rows_max,
            timeout_ms=int(timeout_s * 1000),
            at_least=self._at_least,
        )
        subject = self._client.subjects.query
        return await ask_query(self._client.connection, subject, request)


class AskFile:
    """Asks a file that no projector holds."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    async def table(
        self, sql: str, *params: Any, rows_max: int = ROWS_MAX, timeout_s: float = TIMEOUT_S
    ) -> Table:
        from .queries import json_row, run_query

        def ask() -> Table:
            found = run_query(self._connection, sql, params, rows_max=rows_max, timeout_s=timeout_s)
            rows = msgspec.json.decode(b"[%b]" % b",".join(map(json_row, found.rows)))
            return Table(
                columns=found.columns, types=found.types, rows=rows, truncated=found.truncated
            )

        return await asyncio.to_thread(ask)


async def ask_now(client: Client) -> AskService:
    """Asks about everything that is in the log by now."""
    return AskService(client, (await client.log.tail()).last)


@asynccontextmanager
async def open_asking(config: Config) -> AsyncIterator[Asking]:
    """The history of the configured pool. Raises `Unavailable`, `NotFound`, `DatabaseBusy`."""
    local = config.server is None
    if not local or find_pool_file(config.data_dir) is not None:
        from ..core.client import open_client

        async with open_client(config) as client:
            service = AskService(client)
            try:
                await service.table("SELECT 1", timeout_s=5)
            except Unavailable:
                if not database_path(config.data_dir, config.pool, local=local).exists():
                    raise
            else:
                yield service
                return
    from .queries import open_database_readonly

    path = database_path(config.data_dir, config.pool, local=local)
    if not path.exists():
        raise NotFound(
            f"there is no history in {config.data_dir}, and no query service answers",
            remedy="Run something first (`dtf run SUITE`), or name a server: --server.",
        )
    with reading(config.data_dir) if local else nullcontext():
        connection = open_database_readonly(path)
        try:
            yield AskFile(connection)
        finally:
            connection.close()


async def find_run(asking: Asking, text: str) -> str:
    """The id of the run people call `text`: an id, a unique beginning of one, or `last`.

    Raises `NotFound`, or `UserError` where several runs begin so.
    """
    if text == "last":
        sql, params = "SELECT run, name FROM runs ORDER BY run_pos DESC LIMIT 1", []
    else:
        sql = "SELECT run, any_value(name) FROM runs WHERE starts_with(run, ?) GROUP BY run LIMIT 6"
        params = [text.lower()]
    found = (await asking.table(sql, *params)).rows
    if not found:
        raise NotFound(f"there is no run {text!r}", remedy="List them with: dtf runs ls")
    if len(found) > 1:
        shown = ", ".join(f"{run[:14]} ({name or 'no name'})" for run, name in found[:5])
        raise UserError(f"{text!r} begins several runs: {shown}", remedy="Type more of it.")
    return str(found[0][0])


def objects(table: Table) -> list[dict[str, Any]]:
    """The rows as objects."""
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def distinct(names: Sequence[str]) -> list[str]:
    """The column names, those that repeat numbered: as keys they must differ."""
    seen: dict[str, int] = {}
    told = []
    for name in names:
        seen[name] = number = seen.get(name, 0) + 1
        told.append(name if number == 1 else f"{name}_{number}")
    return told
