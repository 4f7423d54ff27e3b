"""Where commands that look get rows. Rule: the query service where a pool runs, else the file.

The projector holds the file alone, so the service answers whenever there is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.errors import NotFound, Unavailable, UserError
from ..core.ids import RUN_ID_LENGTH
from ..core.pool_file import find_pool_file
from ..core.pool_lock import reading
from ..core.query import QueryRequest, ask_query
from ..core.session import current
from .next_step import command

if TYPE_CHECKING:
    from ..core.client import Client
    from ..core.config import Config

Rows = list[list[Any]]
ROWS_MAX = 100_000
CHANGE_LIMIT_S = 5.0
"""How long a local pool may take to start or to end before that is an error here."""
CHANGE_LOOK_S = 0.1
_NAMED_MAX = 5


class TaskName(NamedTuple):
    """A task as people name it: its run and its id there."""

    run: str
    task: str


class History:
    """Answers SQL about the pool's past and present; read-only."""

    def __init__(self, *, client: Client | None = None, file: Any = None) -> None:
        self.client = client
        """Connected to the pool; None where only the file is there."""
        self._file = file
        self._at_least = 0

    @property
    def live(self) -> bool:
        """Whether a pool runs; else the rows are as it left them."""
        return self.client is not None

    @asynccontextmanager
    async def log(self) -> AsyncIterator[Client]:
        """A client that can read logs and blobs; where no pool runs, of its server alone."""
        if self.client is not None:
            yield self.client
            return
        async with current().open_log() as client:
            yield client

    async def rows(self, sql: str, *params: Any) -> Rows:
        """The rows of a query, as of the first query of this history or later: what was stored
        before is seen. Raises `QueryRefused`, and `Unavailable` without an answer.
        """
        if self.client is None:
            return [list(row) for row in self._file.execute(sql, params).fetchall()]
        if not self._at_least:
            self._at_least = (await self.client.log.tail()).last
        request = QueryRequest(sql=sql, params=params, rows_max=ROWS_MAX, at_least=self._at_least)
        table = await ask_query(self.client.connection, self.client.subjects.query, request)
        return [list(row) for row in table.rows]

    async def run(self, text: str) -> str:
        """The id of the run people call `text`: an id, a unique prefix, or `last`.

        Raises `NotFound`, or `UserError` where several runs begin so.
        """
        if text == "last":
            sql = "SELECT run FROM runs ORDER BY publisher = ? DESC, run_pos DESC LIMIT 1"
            found = await self.rows(sql, current().config.publisher)
            if not found:
                raise NotFound("there are no runs yet", remedy=command("run", "SUITE"))
            return str(found[0][0])
        sql = "SELECT run, any_value(name) FROM runs WHERE starts_with(run, ?) GROUP BY run LIMIT 6"
        found = await self.rows(sql, text.lower())
        if not found and len(text) == RUN_ID_LENGTH:
            return text.lower()  # submitted this moment: the projector has not written it yet
        return _the_one(text, found)

    async def task(self, text: str) -> TaskName:
        """The task people call `text`: RUN/TASK, or TASK of the last run."""
        run, _, task = text.rpartition("/")
        found = await self.run(run or "last")
        known = await self.rows(
            "SELECT 1 FROM groups WHERE run = ? AND group_name = ? AND ? < tasks",
            found,
            task.rpartition("-")[0],
            int(task.rpartition("-")[2]) if task.rpartition("-")[2].isdigit() else 2**31 - 1,
        )
        if not known:
            raise NotFound(
                f"run {found[:10]} has no task {task!r}",
                remedy=f"List them with: {command('task', 'ls', found[:10])}",
            )
        return TaskName(found, task)


def _the_one(text: str, found: Sequence[Sequence[Any]]) -> str:
    if len(found) == 1:
        return str(found[0][0])
    if not found:
        raise NotFound(
            f"there is no run {text!r}", remedy=f"List them with: {command('runs', 'ls')}"
        )
    shown = ", ".join(f"{run[:14]} ({name or 'no name'})" for run, name in found[:_NAMED_MAX])
    more = " and more" if len(found) > _NAMED_MAX else ""
    raise UserError(
        f"{text!r} begins several runs: {shown}{more}", remedy="Type a few characters more."
    )


@asynccontextmanager
async def open_history() -> AsyncIterator[History]:
    """The history of the configured pool. Raises `NotFound` when there is none on this machine.

    A local pool that starts or ends at this moment is waited for.
    """
    async with AsyncExitStack() as stack:
        yield await _settled_history(stack)


async def _settled_history(stack: AsyncExitStack) -> History:
    clock = asyncio.get_running_loop().time
    deadline = clock() + CHANGE_LIMIT_S
    while True:
        opening = AsyncExitStack()
        try:
            history = await opening.enter_async_context(_open_once())
            if current().config.server is None and history.live:
                await history.rows("SELECT 1")
        except Unavailable:
            await opening.aclose()
            if current().config.server is not None or clock() > deadline:
                raise
            await asyncio.sleep(CHANGE_LOOK_S)
            continue
        except BaseException:
            await opening.aclose()
            raise
        stack.push_async_exit(opening)
        return history


@asynccontextmanager
async def _open_once() -> AsyncIterator[History]:
    config = current().config
    if config.server is not None or find_pool_file(config.data_dir) is not None:
        from ..core.client import open_client

        async with open_client(config) as client:
            yield History(client=client)
    else:
        with reading(config.data_dir) if config.data_dir.is_dir() else nullcontext():
            file = _open_file(config)
            try:
                yield History(file=file)
            finally:
                file.close()


def _open_file(config: Config) -> Any:
    from ..projections.database import database_path
    from ..projections.queries import open_database_readonly

    path = database_path(config.data_dir, config.pool, local=True)
    if not path.exists():
        raise NotFound(
            f"there is no history in {config.data_dir}, and no pool runs there",
            remedy="Run something first: dtf run SUITE (or name a server: --server).",
        )
    return open_database_readonly(path)
