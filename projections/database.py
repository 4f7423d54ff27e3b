"""Opening, recognising and setting aside DuckDB files.

Rule: one process owns a file; a file that is not ours is never touched, one that is broken is kept.

Settings are locked after opening: no file system, no network, no Python variables reach a query.
"""

from __future__ import annotations

import re
import threading
import zlib
from importlib.resources import files
from pathlib import Path

import duckdb

from ..core.errors import UserError
from .errors import DatabaseBroken, DatabaseBusy, DatabaseForeign, DatabaseFull

ROWS_VERSION = 1
"""Raised whenever a row of the same tables comes to mean something else."""
SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": "2",
    "memory_limit": "2GB",
    "enable_external_access": "false",
    "python_enable_replacements": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


def _script(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


SCHEMA_VERSION = ROWS_VERSION << 32 | zlib.crc32(
    (_script("schema.sql") + _script("views.sql")).encode()
)
"""Another one whenever a table or view changes; a file of another version is rebuilt from the log.
"""
_HOLDER = re.compile(r"PID (\d+)")
_FULL = ("No space left on device", "File too large", "Disk quota exceeded")
_OURS = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ConversionException,
    duckdb.InvalidInputException,
    duckdb.NotImplementedException,
    duckdb.ParserException,
    duckdb.ResourceInUseException,
)
RESERVED = ("fact", "live", "keep")
"""Schemas. DuckDB names the catalog of a file by its stem and must tell the two apart."""
_open_here: set[Path] = set()
_open_lock = threading.Lock()


def database_path(data_dir: Path, pool: str, *, local: bool) -> Path:
    """Where the projection of a pool lives under a data directory: the local pool has one file."""
    return data_dir / ("history.duckdb" if local else f"history-{pool}.duckdb")


def open_database(path: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """The file is open and held by this process; close it with `close_database`.

    Raises `DatabaseBusy`, `DatabaseFull` or `DatabaseBroken`.
    """
    path = path.absolute()
    if path.stem.lower() in RESERVED:
        raise UserError(
            f"a projection cannot be called {path.name}",
            remedy=f"Choose another name than {', '.join(RESERVED)}.",
        )
    with _open_lock:
        if path in _open_here:
            raise DatabaseBusy(
                f"{path} is open in this process already",
                remedy="Run one projector for each file.",
            )
        try:
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
            connection = duckdb.connect(str(path), read_only=read_only, config=SETTINGS)
        except duckdb.Error as error:
            raise explained(error, path) from error
        _open_here.add(path)
    connection.execute("SET GLOBAL TimeZone = 'UTC'").fetchall()
    connection.execute("SET lock_configuration = true").fetchall()
    return connection


def close_database(path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """The file is closed and free. A broken one closes too."""
    try:
        connection.close()
    except duckdb.Error:
        pass  # it was broken: there is nothing left to save
    finally:
        with _open_lock:
            _open_here.discard(path.absolute())


def explained(error: duckdb.Error, path: Path) -> Exception:
    """What a DuckDB error means for the projection; the error itself where it is a bug of ours."""
    if isinstance(error, _OURS):
        return error
    text = str(error)
    if "Could not set lock" in text or "different configuration" in text:
        found = _HOLDER.search(text)
        pid = int(found[1]) if found else None
        holder = f"process {pid}" if pid is not None else "another process"
        return DatabaseBusy(
            f"{path} is held by {holder}",
            pid,
            remedy="Stop it, ask its query service (`dtf sql`), or name another file.",
        )
    if any(sign in text for sign in _FULL) and "has been invalidated" not in text:
        return DatabaseFull(
            f"cannot write {path}: {text.splitlines()[-1][:200]}",
            remedy="Free space on that disk; nothing is lost, the log has everything.",
        )
    return DatabaseBroken(f"{path} cannot be used: {text.splitlines()[0][:300]}")


def is_fresh(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the database holds nothing at all."""
    found = connection.execute("SELECT count(*) FROM duckdb_tables() WHERE NOT internal").fetchall()
    return bool(found[0][0] == 0)


def stored_version(connection: duckdb.DuckDBPyConnection, path: Path, pool: str) -> int | None:
    """Schema version of a projection file; None for a fresh one. Raises `DatabaseForeign`."""
    if is_fresh(connection):
        return None
    try:
        rows = connection.execute("SELECT schema_version, pool FROM keep.position").fetchall()
    except duckdb.CatalogException:
        rows = []
    if not rows:
        raise DatabaseForeign(
            f"{path} is a DuckDB file, but no projection of a dtf pool",
            remedy="Name another file; this one is left as it is.",
        )
    version, owner = rows[0]
    if owner != pool:
        raise DatabaseForeign(
            f"{path} is the projection of pool {owner!r}, not {pool!r}",
            remedy="Name another file; this one is left as it is.",
        )
    return int(version)


def create_tables(connection: duckdb.DuckDBPyConnection, pool: str) -> None:
    """The empty projection of a pool is in the database, in one transaction; views not yet."""
    connection.begin()
    connection.execute(_script("schema.sql")).fetchall()
    connection.execute(
        "INSERT INTO keep.position VALUES (?, ?, '', 0, '', 0, '', 0)", [SCHEMA_VERSION, pool]
    ).fetchall()
    connection.commit()


def create_views(connection: duckdb.DuckDBPyConnection) -> None:
    """The views are in the database, in one transaction. Idempotent; costs 0.1 s the first time."""
    found = connection.execute("SELECT count(*) FROM duckdb_views() WHERE NOT internal")
    if found.fetchall()[0][0]:
        return
    connection.begin()
    connection.execute(_script("views.sql")).fetchall()
    connection.commit()


def set_aside(path: Path, why: str) -> Path:
    """The file and its write-ahead log have a new name beside the old one; that name.

    Does nothing where there is no file.
    """
    if not path.exists():
        return path
    number = 1
    while (kept := path.with_name(f"{path.name}.{why}-{number}")).exists():
        number += 1
    path.replace(kept)
    log = path.with_name(path.name + ".wal")
    if log.exists():
        log.replace(kept.with_name(kept.name + ".wal"))
    return kept
