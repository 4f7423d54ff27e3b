"""`dtf sql`, `dtf report ...`, `dtf audit ...`, `dtf projector ...`.

Rule: parse, call, return; functions import what is heavy.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ..core.errors import UserError
from ..core.exit_codes import ExitCode
from ..core.listing import Column, Field, Listing, Record
from ..core.session import current

if TYPE_CHECKING:
    from ..core.client import Client
    from ..core.config import Config
    from .asking import Asking
    from .audit import Line

File = Annotated[Path | None, Parameter(name=["--file", "-f"])]


# -- asking ----------------------------------------------------------------------------------------
async def sql(
    statement: str | None = None,
    /,
    *,
    max_rows: Annotated[int, Parameter(name=["--max-rows", "-n"])] = 1000,
    timeout: float = 30.0,
) -> Listing:
    """Ask the history in SQL (DuckDB). Read-only.

    `dtf sql "SHOW TABLES"` lists the tables, `dtf sql "DESCRIBE tasks"` the columns of one.

    Parameters
    ----------
    statement
        One SELECT (or EXPLAIN, DESCRIBE, SHOW TABLES); read from stdin when it is left out.
    max_rows
        Rows to show at most.
    timeout
        Seconds after which the query is stopped.
    """
    from .asking import distinct, open_asking

    text = sys.stdin.read() if statement is None else statement
    if max_rows < 0 or timeout <= 0:
        raise UserError(
            f"--max-rows {max_rows} and --timeout {timeout} must not be negative",
            remedy="Leave them out for 1000 rows and 30 seconds.",
        )
    async with open_asking(current().config) as asking:
        table = await asking.table(text, rows_max=max_rows, timeout_s=timeout)
    notes = []
    if table.truncated:
        notes.append(f"These are the first {max_rows:,} rows; --max-rows shows more.")
    columns = [Column(name=name, title=name) for name in distinct(table.columns)]
    return Listing(kind="sql", columns=columns, rows=table.rows, notes=notes, empty="No rows.")


# -- reports ---------------------------------------------------------------------------------------
async def report_junit(run: str, /, *, file: File = None) -> int:
    """JUnit XML of a run, as CI systems read it.

    Parameters
    ----------
    run
        A run: its id, a unique beginning of it, or `last`.
    file
        Write here instead of to stdout.
    """
    from .reports.gather import gather
    from .reports.junit import junit_xml

    async with _asking_about(run) as (asking, found):
        return _put(junit_xml(await gather(asking, found)), file)


async def report_md(run: str, /, *, file: File = None) -> int:
    """Markdown summary of a run: verdict, matrix, failures with the end of their output.

    Parameters
    ----------
    run
        A run: its id, a unique beginning of it, or `last`.
    file
        Write here instead of to stdout.
    """
    from .reports.gather import gather
    from .reports.markdown import markdown_text

    async with _asking_about(run) as (asking, found):
        return _put(markdown_text(await gather(asking, found)), file)


async def report_json(run: str, /, *, file: File = None) -> int:
    """Everything about a run as one JSON document.

    Parameters
    ----------
    run
        A run: its id, a unique beginning of it, or `last`.
    file
        Write here instead of to stdout.
    """
    from .reports.document import json_text
    from .reports.gather import gather

    async with _asking_about(run) as (asking, found):
        return _put(json_text(await gather(asking, found)), file)


async def write_junit(client: Client, run: str, path: Path) -> None:
    """The JUnit XML of a run that is in the log is in the file. Waits for the projector."""
    from .asking import ask_now
    from .reports.gather import gather
    from .reports.junit import junit_xml

    _put(junit_xml(await gather(await ask_now(client), run)), path)


def _put(text: str, file: Path | None) -> int:
    if file is None:
        sys.stdout.write(text)
        return ExitCode.PASSED
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from error
    return ExitCode.PASSED


@asynccontextmanager
async def _asking_about(run: str) -> AsyncIterator[tuple[Asking, str]]:
    from .asking import find_run, open_asking

    async with open_asking(current().config) as asking:
        yield asking, await find_run(asking, run)


# -- the log itself --------------------------------------------------------------------------------
async def audit_tail(
    *,
    last: Annotated[int, Parameter(name=["--last", "-n"])] = 50,
    first: Annotated[int | None, Parameter(name=["--from"])] = None,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative="")] = False,
    kinds: Annotated[list[str] | None, Parameter(name=["--kinds", "-k"])] = None,
) -> Listing | int:
    """Events as they are stored, with what does not count and why.

    Parameters
    ----------
    last
        So many events from the end.
    first
        From this sequence on instead.
    follow
        Go on with new events until Ctrl-C.
    kinds
        Only these types, such as TaskSettled,RunSettled.
    """
    from .audit import read_lines

    wanted = _kinds(kinds or [])
    async with current().open_log() as client:
        lines = read_lines(
            client.log,
            client.config.pool,
            first=first,
            last=max(last, 0),
            kinds=wanted,
            follow=follow,
        )
        if not follow:
            return _audit_listing([line async for line in lines])
        async for line in lines:
            _print_line(line)
    return ExitCode.PASSED


def _kinds(given: Sequence[str]) -> frozenset[str]:
    from .audit import KINDS

    names = {name.strip() for each in given for name in each.split(",") if name.strip()}
    known = {name.lower(): name for name in KINDS}
    unknown = sorted(name for name in names if name.lower() not in known)
    if unknown:
        raise UserError(
            f"--kinds: there is no event type {unknown[0]!r}", remedy=f"Known: {', '.join(KINDS)}"
        )
    return frozenset(known[name.lower()] for name in names)


def _audit_listing(lines: Sequence[Line]) -> Listing:
    from .audit import as_object

    columns = [
        Column(name="sequence", title="seq", kind="count"),
        Column(name="index", title="i", kind="count"),
        Column(name="time_ns", title="when", kind="time_ns"),
        Column(name="subject"),
        Column(name="type", title="event"),
        Column(name="void"),
        Column(name="content", flexible=True),
    ]
    names = [column.name for column in columns]
    rows = [[as_object(line)[name] for name in names] for line in lines]
    return Listing(kind="audit", columns=columns, rows=rows, empty="The log is empty.")


def _print_line(line: Line) -> None:
    """One line for people, or one JSON object for programs, as soon as it is known."""
    import msgspec

    from .audit import as_object

    if current().machine:
        told = {"schema": "dtf.audit/1", **as_object(line)}
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
    else:
        void = f" VOID {line.void}" if line.void else ""
        sys.stdout.write(
            f"{line.sequence}.{line.index} {_clock(line.time_ns)} {line.subject} "
            f"{line.type or '?'}{void} {line.content}\n"
        )
    sys.stdout.flush()


def _clock(time_ns: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%H:%M:%S.%f")[:-3] + "Z"


# -- the projector ---------------------------------------------------------------------------------
def projector_run(*, database: Path | None = None) -> int:
    """Run the projector and its query service until it is stopped (Ctrl-C or SIGTERM).

    Parameters
    ----------
    database
        DuckDB file; in the data directory by default.
    """
    from .process import run_process

    config = current().config
    return run_process(config, database or _database(config))


async def projector_rebuild(*, database: Path | None = None) -> Record:
    """Make the DuckDB file anew from the log and compare: the same rows, or exit code 5.

    Parameters
    ----------
    database
        DuckDB file; in the data directory by default. No projector may hold it.
    """
    from .process import rebuild

    config = current().config
    path = database or _database(config)
    async with current().open_log() as client:
        found = await rebuild(client.log, config.pool, path)
    same = None if found.differing is None else not found.differing
    fields = [
        Field("database", str(path)),
        Field("position", found.position, "count"),
        Field("rows", found.rows, "count"),
        Field("same_rows", same, "json", "same rows as before"),
        Field("differing", found.differing or None, "json"),
    ]
    code = ExitCode.DIVERGED if found.differing else ExitCode.PASSED
    return Record(kind="rebuild", title="Rebuilt from the log", fields=fields, exit_code=code)


def _database(config: Config) -> Path:
    from .database import database_path

    return database_path(config.data_dir, config.pool, local=config.server is None)
