"""Commands about the core's own things: configuration, contexts, schema, exit codes, a new project.

Rule: they need no server, so they work when nothing else does.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from .errors import UserError
from .exit_codes import MEANING, ExitCode
from .listing import Column, Field, Listing, Record
from .session import current


def exit_codes() -> Listing:
    """What the exit status of every command says."""
    return Listing(
        kind="exit-codes",
        columns=[
            Column(name="code", kind="count"),
            Column(name="name"),
            Column(name="meaning", wraps=True),
        ],
        rows=[[int(code), code.name.lower(), meaning] for code, meaning in MEANING.items()],
    )


def schema() -> int:
    """Print the JSON Schema of every event."""
    from .codec import event_schema

    text = msgspec.json.format(msgspec.json.encode(event_schema()), indent=2)
    sys.stdout.write(text.decode() + "\n")
    return ExitCode.PASSED


def config_show(*, origin: bool = False) -> Listing:
    """Every setting in force; secrets are masked.

    Parameters
    ----------
    origin
        Also say where each value comes from.
    """
    from .config import explain_config

    rows = [[key, value or None, source] for key, value, source in explain_config(current().config)]
    columns = [Column(name="setting"), Column(name="value", wraps=True)]
    if origin:
        columns.append(Column(name="origin", wraps=True))
    return Listing(kind="config", columns=columns, rows=[row[: len(columns)] for row in rows])


def context_ls() -> Listing:
    """List contexts; the one in use is marked."""
    store = current().config.contexts
    used = store.current()
    rows = [
        [name, name == used, store.show(name).get("server"), store.show(name).get("pool")]
        for name in store.names()
    ]
    columns = [Column(name="name"), Column(name="used"), Column(name="server", flexible=True)]
    return Listing(
        kind="contexts",
        columns=[*columns, Column(name="pool")],
        rows=rows,
        empty="No contexts yet. Add one: dtf context add NAME --server nats://host:4222",
    )


def context_add(
    name: str,
    /,
    *,
    user: str | None = None,
    password: str | None = None,
    token: str | None = None,
    creds: Path | None = None,
    tls_ca: Path | None = None,
    replace: bool = False,
) -> Record:
    """Name a server and how to reach it (`--server`, `--pool` are part of it).

    Parameters
    ----------
    name
        Name of the context.
    user
        User name for the server.
    password
        Password for the server; stored in a file only you may read.
    token
        Token for the server.
    creds
        NATS credentials file.
    tls_ca
        Certificate authority of the server.
    replace
        Overwrite a context of that name.
    """
    session = current()
    given = {"user": user, "password": password, "token": token, "creds": creds, "tls_ca": tls_ca}
    values = {key: str(value) for key, value in given.items() if value is not None}
    for key in ("server", "pool"):
        if session.flags.get(key):
            values[key] = session.flags[key]
    if "server" not in values:
        raise UserError(
            f"context {name!r} names no server; nothing was written",
            remedy=f"dtf context add {name} --server nats://host:4222",
        )
    path = session.config.contexts.add(name, values, replace=replace)
    fields = [Field("name", name), Field("file", str(path))]
    return Record(kind="context", fields=fields, notes=[f"Use it: dtf context use {name}"])


def context_use(name: str | None = None, /, *, none: bool = False) -> Record:
    """Choose the context that counts where nothing stronger is given.

    Parameters
    ----------
    name
        Name of the context.
    none
        Use no context from now on.
    """
    if (name is None) != none:
        raise UserError("say which context to use, or --none", remedy="dtf context ls")
    store = current().config.contexts
    store.use(name)
    return Record(kind="context", fields=[Field("used", name or "none")])


def context_show(name: str | None = None, /) -> Record:
    """One context, secrets masked.

    Parameters
    ----------
    name
        Name of the context; without it, the one in use.
    """
    store = current().config.contexts
    chosen = name or store.current()
    if chosen is None:
        raise UserError("no context is in use", remedy="dtf context ls")
    fields = [Field(key, value) for key, value in store.show(chosen).items()]
    return Record(kind="context", title=chosen, fields=[Field("name", chosen), *fields])


def context_rm(name: str, /) -> Record:
    """Remove a context.

    Parameters
    ----------
    name
        Name of the context.
    """
    current().config.contexts.remove(name)
    return Record(kind="context", fields=[Field("removed", name)])


def context_validate(*names: str) -> Listing:
    """Check context files without connecting; exit code 2 when something is wrong.

    Parameters
    ----------
    names
        Contexts to check; all without any.
    """
    store = current().config.contexts
    rows = []
    for name in names or store.names():
        problems = store.validate(name)
        rows.append([name, "missing" if problems else "ok", "; ".join(problems) or None])
    columns = [Column(name="name"), Column(name="state", kind="state")]
    return Listing(
        kind="context-checks",
        columns=[*columns, Column(name="problem", wraps=True)],
        rows=rows,
        empty="No contexts yet. Add one: dtf context add NAME --server nats://host:4222",
        exit_code=ExitCode.USAGE if any(row[2] for row in rows) else ExitCode.PASSED,
    )


def init(directory: Path = Path("."), /) -> Record:
    """Write dtf.toml and an example suite that passes; nothing that exists is overwritten.

    Parameters
    ----------
    directory
        Where to write; made when it is missing.
    """
    from .starter import FILES, write_files

    taken = [name for name in FILES if (directory / name).exists()]
    if taken:
        raise UserError(
            f"{directory / taken[0]} exists already; nothing was written",
            remedy="Run `dtf init` in another directory, or move that file away.",
        )
    write_files(directory)
    where = "" if directory == Path(".") else f"cd {directory} && "
    return Record(
        kind="init",
        fields=[Field(name, "written") for name in FILES],
        notes=[f"next: {where}dtf run suite.toml"],
    )


async def pool_init(*, replicas: int = 1) -> Record:
    """Create the pool's streams and stores on the server; what is there already stays as it is.

    Parameters
    ----------
    replicas
        Copies of every stream, on a cluster of servers.
    """
    from .adapters.nats_client import connect
    from .setup import init_pool

    config = current().config
    connection = await connect(config.nats_options("dtf"))
    try:
        uuid = await init_pool(connection, config.pool, replicas=replicas)
    finally:
        await connection.aclose()
    fields = [Field("pool", config.pool), Field("uuid", uuid), Field("server", config.server)]
    return Record(kind="pool", fields=fields, notes=["next: dtf coordinator run"])
