"""What every `EventLog` promises: one suite, run on the twin in memory and on JetStream."""

from __future__ import annotations

from contextlib import aclosing

from dtf.core.adapters.jetstream import JetStreamLog
from dtf.core.adapters.nats_client import Connection
from dtf.core.ids import random_id
from dtf.core.subjects import Subjects


async def test_an_append_is_read_back(connection: Connection, pool: Subjects) -> None:
    log = JetStreamLog(connection, pool.log_stream)
    stored = await log.append(pool.leader, b"[]", random_id(26))
    async with aclosing(log.read([], stored.sequence - 1)) as batches:
        async for batch in batches:
            assert [(m.sequence, m.subject, m.data) for m in batch] == [
                (stored.sequence, pool.leader, b"[]")
            ]
            break
