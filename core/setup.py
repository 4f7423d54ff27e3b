"""Making a pool on a server.

Rule: idempotent and safe to call by many at once; existing data is never changed or lost.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from typing import Any
from uuid import uuid4

import msgspec

from .adapters.nats_client import ApiError, Connection
from .codec import decode_batch, encode_batch
from .errors import DtfError, LogUnavailable
from .events import PoolCreated
from .ids import random_id
from .subjects import Subjects

CREATE_LIMIT_S = 20.0
"""An election of a cluster takes up to ten seconds."""
RETRY_S = 0.2
UNAVAILABLE = 503
SECOND_NS = 1_000_000_000
STREAM_EXISTS = 10058
WRONG_LAST_SEQUENCE = 10071
NO_MESSAGE = 10037
CONSUMERS_MAX = 65_536
"""The default would refuse the 1,001st: too few for a large pool (one consumer a worker)."""
UUID_KEY = "dtf_pool_uuid"
DUPLICATE_WINDOW_S = 120
"""How long the broker knows a message id.

Longer costs memory (about 100 B an id); the fold needs none of it (F6).
"""


async def init_pool(
    connection: Connection,
    pool: str = "main",
    *,
    replicas: int = 1,
    log_bytes_max: int | None = None,
    blob_bytes_max: int | None = None,
) -> str:
    """The pool's streams, lease bucket and object stores exist and its log has its `PoolCreated`;
    its uuid.

    What exists already stays as it is. Raises `ApiError` when the server refuses (no JetStream, no
    permission, too few servers for `replicas`), `LogUnavailable` without an answer.
    """
    subjects = Subjects(pool)
    log = _log_stream(subjects, log_bytes_max)
    log["metadata"] = {UUID_KEY: str(uuid4())}
    log["subjects"] = [subjects.pool_rulings]
    lossy = {"persist_mode": "async"} if replicas == 1 else {}
    for config in (
        log,
        _telemetry_stream(subjects) | lossy,
        _output_stream(subjects) | lossy,
        _lease_bucket(subjects.lease_bucket),
        _object_store(subjects.blob_bucket, blob_bytes_max),
        _object_store(subjects.state_bucket, None),
    ):
        await _create(connection, {**config, "num_replicas": replicas})
    uuid = await _first_event(connection, subjects)
    await _open(connection, subjects)
    return uuid


async def _create(connection: Connection, config: dict[str, Any]) -> None:
    """The stream exists. Asked again for a while: a cluster without a leader yet says nothing."""
    deadline = asyncio.get_running_loop().time() + CREATE_LIMIT_S
    while True:
        try:
            await connection.api(f"STREAM.CREATE.{config['name']}", config, timeout=3.0)
            return
        except ApiError as error:
            if error.err_code == STREAM_EXISTS:
                return
            if error.code != UNAVAILABLE or asyncio.get_running_loop().time() > deadline:
                raise
        except LogUnavailable:
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(RETRY_S)


async def _first_event(connection: Connection, subjects: Subjects) -> str:
    """The log's uuid, once `PoolCreated` is in the log: before it nothing counts (protocol F7).

    It need not be the first message: somebody may have written before it.
    """
    info = await connection.api(f"STREAM.INFO.{subjects.log_stream}")
    known = (info["config"].get("metadata") or {}).get(UUID_KEY)
    event = PoolCreated(uuid=str(known or uuid4()), name=subjects.pool)
    while True:
        uuid, last = await _created(connection, subjects)
        if uuid:
            return uuid
        if known is None and info["state"]["last_seq"]:
            raise DtfError(
                f"{subjects.log_stream} exists but is no log of a pool",
                remedy="Choose another pool name, or delete that stream.",
            )
        await _append_after(connection, subjects.pool_rulings, encode_batch([event]), last)


async def _created(connection: Connection, subjects: Subjects) -> tuple[str, int]:
    """(uuid of the pool's first `PoolCreated` or "", last sequence on its subject before that)."""
    last = 0
    while True:
        wanted = {"seq": last + 1, "next_by_subj": subjects.pool_rulings}
        try:
            found = await connection.api(f"STREAM.MSG.GET.{subjects.log_stream}", wanted)
        except ApiError as error:
            if error.err_code == NO_MESSAGE:
                return "", last
            raise
        last = int(found["message"]["seq"])
        for event in decode_batch(b64decode(found["message"].get("data", ""))):
            if isinstance(event, PoolCreated) and event.name == subjects.pool:
                return event.uuid, last


async def _open(connection: Connection, subjects: Subjects) -> None:
    """The log takes what everybody writes; until `PoolCreated` is in it, it takes only that.

    A worker that joined before would never be told that its join is void.
    """
    info = await connection.api(f"STREAM.INFO.{subjects.log_stream}")
    if not set(subjects.log_subjects) <= set(info["config"]["subjects"]):
        config = info["config"] | {"subjects": subjects.log_subjects}
        await connection.api(f"STREAM.UPDATE.{subjects.log_stream}", config)


async def _append_after(connection: Connection, subject: str, data: bytes, last: int) -> None:
    """The message is stored if `last` was still the newest of its subject; nothing is if not."""
    headers = (
        f"NATS/1.0\r\nNats-Msg-Id: {random_id(26)}\r\n"
        f"Nats-Expected-Last-Subject-Sequence: {last}\r\n\r\n"
    )
    answer = await connection.request(subject, data, 5.0, headers=headers.encode())
    error = msgspec.json.decode(answer).get("error")
    if error and error.get("err_code") != WRONG_LAST_SEQUENCE:
        raise LogUnavailable(f"cannot write the first event of a pool to {subject}: {error}")


def _stream(name: str, subjects: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "subjects": subjects,
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "max_consumers": CONSUMERS_MAX,
        "duplicate_window": DUPLICATE_WINDOW_S * SECOND_NS,
        "deny_delete": True,
    }


def _log_stream(subjects: Subjects, bytes_max: int | None) -> dict[str, Any]:
    """Every fact, kept; purged only once archived, so purging is not denied for good."""
    stream = _stream(subjects.log_stream, subjects.log_subjects)
    return stream | ({"max_bytes": bytes_max} if bytes_max else {})


def _telemetry_stream(subjects: Subjects) -> dict[str, Any]:
    """Beats decide nothing: on one server they are acknowledged before they are synced."""
    kinds = [f"{subjects.prefix}beat.>", f"{subjects.prefix}health.>"]
    return _stream(subjects.telemetry_stream, kinds) | {
        "discard": "old",
        "max_age": 3600 * SECOND_NS,
    }


def _output_stream(subjects: Subjects) -> dict[str, Any]:
    return _stream(subjects.output_stream, [f"{subjects.prefix}output.>"]) | {
        "discard": "old",
        "max_age": 24 * 3600 * SECOND_NS,
        "max_bytes": 1024**3,
    }


def _lease_bucket(bucket: str) -> dict[str, Any]:
    """A KV bucket whose keys leave a marker when they expire, so that watchers see it at once.

    History 1, because more would make the marker's time the shortest TTL of a lease. Markers stay
    for a year: without one a key's revision would fall back to 0 unseen.
    """
    return _stream(f"KV_{bucket}", [f"$KV.{bucket}.>"]) | {
        "max_msgs_per_subject": 1,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "subject_delete_marker_ttl": 365 * 86_400 * SECOND_NS,
    }


def _object_store(bucket: str, bytes_max: int | None) -> dict[str, Any]:
    stream = _stream(f"OBJ_{bucket}", [f"$O.{bucket}.C.>", f"$O.{bucket}.M.>"])
    return (
        stream
        | {"deny_delete": False, "allow_rollup_hdrs": True, "allow_direct": True}
        | ({"max_bytes": bytes_max} if bytes_max else {})
    )
