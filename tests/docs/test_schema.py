"""The published JSON Schema says what the codec does: for every event, and for what is no event."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import jsonschema
import pytest
from dtf.core import events as e
from dtf.core.codec import Undecodable, decode_batch, decode_telemetry, encode_batch
from dtf.core.model import (
    Axis,
    Case,
    Cause,
    Device,
    Held,
    Measurement,
    Output,
    Placement,
    Requirement,
    TaskSpec,
    Usage,
    Verdict,
)
from msgspec import Raw

SCHEMA = Path(__file__).resolve().parents[2] / "docs/reference/schema/events.schema.json"
TOKEN = "ops-0.1.3.abcdefgh"
SPEC = TaskSpec(command=["true"], require=Requirement(hardware="cuda", devices=1), retries=1)
SAMPLES: list[e.Event] = [
    e.PoolCreated(uuid="u", name="main"),
    e.PoolConfigured(admins=["admin", "ci"]),
    e.DrainRequested(worker="w1", reason="new driver"),
    e.RunSubmitted(key="commit-1", name="nightly", labels={"branch": "main"}),
    e.TasksSubmitted(part=0, group="ops", spec=SPEC, axes=[Axis(name="b", values=[Raw(b"1")])]),
    e.TasksSubmitted(part=1, group="more", spec=SPEC, items=[Raw(b'{"model": "tiny"}')]),
    e.RunSealed(parts=2, tasks=2),
    e.CancelRequested(task="ops-0"),
    e.WorkerJoined(
        incarnation="i1",
        hardware=["cpu", "cuda"],
        cpu_milli=2000,
        memory_bytes=2**34,
        devices=[Device(id="GPU-1", hardware="cuda", memory_bytes=2**33)],
        held=[Held(run="r", token=TOKEN)],
        client_id=7,
    ),
    e.WorkerDraining(incarnation="i1"),
    e.WorkerLeft(incarnation="i1", reason="asked to"),
    e.AttemptStarted(token=TOKEN),
    e.CasesReported(
        token=TOKEN,
        n=1,
        cases=[Case(id="t::a", verdict=Verdict.FAILED, message="1 != 2")],
        measurements=[Measurement(name="latency", value=1.5, unit="ms", samples=[1.0, 2.0])],
    ),
    e.ArtifactStored(token=TOKEN, n=2, path="out/a.json", digest="sha256:0", bytes=3),
    e.AttemptReturned(token=TOKEN),
    e.AttemptFinished(
        token=TOKEN,
        n=3,
        verdict=Verdict.FALLBACK,
        cause=Cause.FALLBACK,
        duration_us=1000,
        exit_code=-9,
        value=Raw(b'{"answer": 42}'),
        usage=Usage(cpu_us=900),
        placement=Placement(requested="cuda", actual="cpu"),
        output=Output(digest="sha256:1", bytes=5, tail="hello"),
    ),
    e.AttemptFinished(token=TOKEN, verdict=Verdict.PASSED, duration_us=0),
    e.LeaderElected(term=1, coordinator="c1", nonce="n"),
    e.SubmissionRejected(term=1, reason="malformed", sequence=4, index=0, fatal=True),
    e.TaskAssigned(
        term=1, run="r", token=TOKEN, incarnation="i1", spec=SPEC, params=Raw(b'{"b": 1}')
    ),
    e.AttemptRevoked(term=1, run="r", token=TOKEN, mode="steal"),
    e.CasesCollected(token=TOKEN, n=2, file="test_a.py", selected=1, ids=["test_a.py::x"]),
    e.WorkerLost(term=1, incarnation="i1"),
    e.TaskRequeued(term=1, token=TOKEN, cause=Cause.WORKER_LOST, delay_ms=10),
    e.TaskSettled(term=1, task="ops-0", verdict=Verdict.PASSED, token=TOKEN, at=(9, 0)),
    e.RangeSettled(
        term=1,
        group="ops",
        start=0,
        stop=9,
        verdict=Verdict.NO_CAPACITY,
        cause=Cause.NO_CAPACITY,
    ),
    e.RunSettled(term=1, verdict="passed", counts={"passed": 1}),
    e.RunForgotten(term=1),
    e.Heartbeat(incarnation="i1", held=[f"r/{TOKEN}"], cpu_percent=12.5),
    e.OutputChunk(n=0, text="hello\n"),
]


@pytest.fixture(scope="module")
def message() -> jsonschema.Draft202012Validator:
    """Validates what one message may hold."""
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator({**schema["$defs"]["Message"], "$defs": schema["$defs"]})


def test_there_is_a_sample_of_every_event() -> None:
    assert {type(sample) for sample in SAMPLES} == set(get_args(e.AnyEvent))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_what_the_codec_writes_the_schema_accepts(
    sample: e.Event, message: jsonschema.Draft202012Validator
) -> None:
    data = encode_batch([sample])
    message.validate(json.loads(data))
    read = decode_telemetry if isinstance(sample, get_args(e.TelemetryEvent)) else decode_batch
    assert list(read(data)) == [sample]


@pytest.mark.parametrize(
    "text",
    [
        '[{"type": "RunSealed", "parts": 1}]',
        '[{"type": "RunSealed", "parts": -1, "tasks": 1}]',
        '[{"type": "RunSubmitted", "key": ""}]',
        '[{"type": "Unheard"}]',
        '[{"type": "TasksSubmitted", "part": 0, "group": "a b", "spec": {}}]',
        '[{"type": "TasksSubmitted", "part": 0, "group": "a", "spec": {"comand": ["x"]}}]',
        "[1]",
    ],
)
def test_what_the_codec_refuses_the_schema_refuses(
    text: str, message: jsonschema.Draft202012Validator
) -> None:
    assert isinstance(decode_batch(text.encode())[0], Undecodable)
    assert not message.is_valid(json.loads(text))


def test_fields_of_a_later_version_are_ignored_by_both(
    message: jsonschema.Draft202012Validator,
) -> None:
    text = '{"type": "RunForgotten", "term": 1, "of_a_later_version": true}'
    assert list(decode_batch(text.encode())) == [e.RunForgotten(term=1)]
    assert message.is_valid(json.loads(text))
