"""What an agent reaches its pool through. Rule: ports only, so that a test puts memory there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..core.ports import BlobStore, EventLog
from ..core.subjects import Subjects

if TYPE_CHECKING:
    from ..core.adapters.nats_client import Connection


class Links(NamedTuple):
    """The streams and the blob store of a pool, and facts of the connection to them."""

    log: EventLog
    telemetry: EventLog
    output: EventLog
    blobs: BlobStore
    identity: Callable[[], tuple[str | None, int | None]] = lambda: (None, None)
    """(server id, client id) of the connection as it is now."""
    connected: Callable[[], bool] = lambda: True
    on_reconnect: list[Callable[[], None]] = []  # noqa: RUF012 (only read)


def links_of(connection: Connection, pool: str) -> Links:
    """The ports of a pool over one NATS connection."""
    from ..core.adapters.blobs import JetStreamBlobs
    from ..core.adapters.jetstream import JetStreamLog

    subjects = Subjects(pool)
    return Links(
        log=JetStreamLog(connection, subjects.log_stream),
        telemetry=JetStreamLog(connection, subjects.telemetry_stream),
        output=JetStreamLog(connection, subjects.output_stream),
        blobs=JetStreamBlobs(connection, subjects.blob_bucket),
        identity=lambda: (connection.server_id, connection.client_id),
        connected=lambda: connection.connected,
        on_reconnect=connection.on_reconnect,
    )
