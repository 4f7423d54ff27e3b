"""A snapshot leaves nothing of the state out, also what is added to it later."""

from __future__ import annotations

import msgspec
import pytest
from dtf.core import snapshot, state
from dtf.core.snapshot import SnapshotCorrupt, decode_pool, encode_pool
from dtf.core.state import Pool


def fields(kind: type) -> set[str]:
    if issubclass(kind, msgspec.Struct):
        return set(kind.__struct_fields__)
    return set(kind.__slots__)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "image", "derived"),
    [
        # `derived`: what decoding finds by itself, and what points back to the owner.
        (state.Pool, snapshot.PoolImage, set()),
        (state.Run, snapshot.RunImage, set()),
        (state.Group, snapshot.GroupImage, {"name", "size"}),
        (state.Task, snapshot.TaskImage, {"run"}),
        (state.Attempt, snapshot.AttemptImage, {"task"}),
        (state.Worker, snapshot.WorkerImage, {"incarnation", "open"}),
    ],
)
def test_every_field_of_the_state_is_in_the_snapshot(
    kind: type, image: type, derived: set[str]
) -> None:
    assert fields(kind) - fields(image) == derived


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[1]", b'{"version": 99}'])
def test_what_is_no_snapshot_is_said_so(data: bytes) -> None:
    with pytest.raises(SnapshotCorrupt):
        decode_pool(data)


def test_a_snapshot_of_another_version_is_refused() -> None:
    data = encode_pool(Pool("main")).replace(b'"version":1', b'"version":2')
    with pytest.raises(SnapshotCorrupt, match="version 2"):
        decode_pool(data)
