"""Waiting for the pool. Rule: nobody waits for ever for what nobody makes.

A worker may be started before its pool; without one there is nothing that could take its join.
"""

from __future__ import annotations

import asyncio
import logging

from ..core.adapters.nats_client import ApiError, Connection
from ..core.errors import LogUnavailable, ServerUnavailable
from ..core.subjects import Subjects

log = logging.getLogger("dtf.worker")
PATIENCE_S = 60.0
LOOK_S = 0.2
TELL_S = 3.0


async def pool_there(connection: Connection, pool: str, patience_s: float = PATIENCE_S) -> None:
    """The pool's log takes the events of workers.

    Says every few seconds that it waits. Raises `ServerUnavailable` after `patience_s`.
    """
    clock = asyncio.get_running_loop().time
    begun = told = clock()
    while (missing := await _missing(connection, Subjects(pool))) is not None:
        now = clock()
        if now - begun >= patience_s:
            raise ServerUnavailable(
                f"there is no pool {pool!r} at {connection.options.url} after "
                f"{patience_s:g} s: {missing}",
                remedy="Create it: `dtf pool init`; or name another pool (--pool).",
            )
        if now - told >= TELL_S or told == begun:
            told = now
            log.warning("waiting for pool %s: %s", pool, missing)
        await asyncio.sleep(min(LOOK_S, max(begun + patience_s - now, 0.01)))


async def _missing(connection: Connection, subjects: Subjects) -> str | None:
    """What the pool lacks, in words; None when it is whole."""
    try:
        info = await connection.api(f"STREAM.INFO.{subjects.log_stream}", timeout=2.0)
    except ApiError as error:
        return str(error)
    except LogUnavailable:
        return "the server does not answer"
    whole = set(subjects.log_subjects) <= set(info["config"].get("subjects") or ())
    return None if whole else "it is being created"
