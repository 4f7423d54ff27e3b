"""The fold is total: any bytes under any subject (protocol F1-F6, F14)."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest
from dtf.core import codec, evolve_pool, evolve_runs, evolve_tasks, fold
from dtf.core import events as e
from dtf.core import evolve as evolve_module
from dtf.core.codec import EVENTS_MAX, encode_batch, encode_event, join_batch
from dtf.core.evolve import STEPS, VOID_REASONS, evolve
from dtf.core.fold import NO_VOIDS, Fold
from dtf.core.model import Cause, TaskSpec, Verdict
from dtf.core.nesting import DEPTH_MAX
from dtf.core.state import Pool, digest
from dtf.core.subjects import Subject
from msgspec import Raw
from worlds import SPEC, World, finished, joined, message

RUN = "r" * 26
SUBJECTS = [
    "pool", "leader", f"run.me.{RUN}", "worker.w", f"attempt.w.{RUN}", "assign.cpu.w",
    "assign._.w", f"ruling.{RUN}",
]  # fmt: skip
LONG = "x" * 2**20
ONE = b'{"type":"WorkerLeft","incarnation":"i9"}'
GARBAGE: dict[str, tuple[bytes, list[str]]] = {
    "nothing": (b"", ["not_json"]),
    "no events": (b"[]", []),
    "text": (b"hello", ["not_json"]),
    "zeros": (b"\0" * 1000, ["not_json"]),
    "random bytes": (bytes(range(256)) * 16, ["not_json"]),
    "half a message": (b'[{"type":"WorkerLeft"', ["not_json"]),
    "two messages": (b"[][]", ["not_json"]),
    "a number": (b"7", ["malformed"]),
    "null": (b"null", ["malformed"]),
    "a string": (b'"WorkerLeft"', ["malformed"]),
    "NaN": (b"[NaN]", ["not_json"]),
    "elements that are no events": (b'[1,"x",null,true,[],{}]', ["malformed"] * 6),
    "no tag": (b'[{"incarnation":"i"}]', ["malformed"]),
    "a tag of another type": (b'[{"type":1}]', ["malformed"]),
    "an unknown tag": (b'[{"type":"TaskBlessed","term":1}]', ["malformed"]),
    "a telemetry event": (b'[{"type":"Heartbeat","incarnation":"i"}]', ["malformed"]),
    "a missing field": (b'[{"type":"WorkerLeft"}]', ["malformed"]),
    "a wrong type": (b'[{"type":"WorkerLeft","incarnation":[1]}]', ["malformed"]),
    "null for a name": (b'[{"type":"WorkerLeft","incarnation":null}]', ["malformed"]),
    "a name with a dot": (b'[{"type":"WorkerLeft","incarnation":"a.b"}]', ["malformed"]),
    "a name with a line feed": (b'[{"type":"WorkerLeft","incarnation":"a\\n"}]', ["malformed"]),
    "a name of 65": (b'[{"type":"WorkerLeft","incarnation":"%s"}]' % (b"a" * 65), ["malformed"]),
    "a float for an int": (b'[{"type":"RunForgotten","term":1.0}]', ["malformed"]),
    "true for an int": (b'[{"type":"RunForgotten","term":true}]', ["malformed"]),
    "a negative term": (b'[{"type":"RunForgotten","term":-1}]', ["malformed"]),
    "a huge number": (b'[{"type":"RunForgotten","term":%s}]' % (b"9" * 5000), ["malformed"]),
    "more than 2^53": (b'[{"type":"RunForgotten","term":9007199254740993}]', ["malformed"]),
    "infinity": (
        b'[{"type":"CasesReported","token":"t","n":0,"measurements":[{"name":"a","value":1e999}]}]',
        ["malformed"],
    ),
    "invalid UTF-8 in a string": (b'[{"type":"WorkerLeft","incarnation":"\xff"}]', ["malformed"]),
    "invalid UTF-8 in a value": (
        b'[{"type":"AttemptFinished","token":"t","verdict":"passed","duration_us":1,"value":"\xe9"}]',
        ["malformed"],
    ),
    "invalid UTF-8 in an unknown field": (
        b'[{"type":"WorkerLeft","incarnation":"i","x":"\xff"}]',
        ["malformed"],
    ),
    "a lone surrogate": (b'[{"type":"WorkerLeft","incarnation":"\\ud800xxxxxx"}]', ["not_json"]),
    "a long string": (b'[{"type":"WorkerLeft","incarnation":"%s"}]' % LONG.encode(), ["malformed"]),
    "a long reason": (
        b'[{"type":"CancelRequested","reason":"%s"}]' % LONG.encode(),
        ["malformed"],
    ),
    "deep nesting": (b"[" * 100_000 + b"]" * 100_000, ["malformed"]),
    "deep nesting, cut": (b"[" * 100_000, ["not_json"]),
    "a deep value": (
        b'[{"type":"AttemptFinished","token":"t","verdict":"passed","duration_us":1,"value":'
        + b'{"a":' * 1000 + b"1" + b"}" * 1001 + b"]",
        ["malformed"],
    ),
    "very many elements": (b"[" + b"0," * 300_000 + b"0]", ["too_many"]),
    "very many events": (b"[" + b",".join([ONE] * (EVENTS_MAX + 1)) + b"]", ["too_many"]),
}  # fmt: skip


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("name", GARBAGE)
def test_f2_f3_garbage_on_any_subject_is_void_and_changes_only_counters(
    name: str, subject: str
) -> None:
    data, expected = GARBAGE[name]
    world = World()
    judged = world.put(subject, data)  # asserts that nothing but counters changed
    assert list(judged.voids[: len(judged.events)]) == expected
    assert sum(world.pool.voids.values()) == len(expected)
    world.join("v", "i1")  # and the fold goes on


BAD_ELEMENTS = [name for name, (_, voids) in GARBAGE.items() if voids == ["malformed"]]


@pytest.mark.parametrize("name", BAD_ELEMENTS)
def test_f2_one_bad_element_never_voids_its_neighbour(name: str) -> None:
    data = GARBAGE[name][0]
    bad = data if not data.startswith(b"[") or data.startswith(b"[[") else data[1:-1]
    world = World()
    good = encode_event(joined("i2")), encode_event(e.WorkerDraining(incarnation="i2"))
    judged = world.put("worker.w", join_batch([good[0], bad, good[1]]))
    assert judged.voids == ["", "malformed", ""]
    assert world.pool.workers["w"].draining


def test_f2_a_top_level_object_is_a_batch_of_one() -> None:
    world = World()
    judged = world.put("worker.w", b' {"type":"WorkerLeft","incarnation":"i1"} ')
    assert list(judged.voids[:1]) == [""]
    assert len(judged.events) == 1


def test_f2_of_duplicate_keys_the_last_wins() -> None:
    world = World()
    world.put("worker.w", b'[{"type":"WorkerLeft","incarnation":"i9","incarnation":"i1"}]')
    assert world.pool.workers["w"].ended == "left"


def test_f2_unknown_fields_are_ignored() -> None:
    world = World()
    world.put("worker.w", b'[{"type":"WorkerLeft","incarnation":"i1","mood":{"x":[1]}}]')
    assert world.pool.workers["w"].ended == "left"


def _at_depth(frames: int, call: Callable[[], Any]) -> Any:
    return call() if frames == 0 else _at_depth(frames - 1, call)


@pytest.mark.parametrize("levels", [DEPTH_MAX - 1, DEPTH_MAX, 700, 900, 960])
def test_f1_what_is_too_deep_follows_from_the_bytes_and_not_from_the_stack(levels: int) -> None:
    value = Raw(b"[" * (levels - 1) + b"]" * (levels - 1))
    data = encode_batch([finished("t", value=value), finished("t", value=Raw(b"1"))])
    stored = message(1, f"attempt.w.{RUN}", data)
    here = len(_frames())
    verdicts = set()
    for frames in (0, 100, sys.getrecursionlimit() - DEPTH_MAX - here - 80):
        judged = _at_depth(frames, lambda: Fold("main").apply(stored))
        verdicts.add(tuple(judged.voids))
    assert verdicts == {("no_pool" if levels <= DEPTH_MAX else "malformed", "no_pool")}


def _frames() -> list[object]:
    frame, frames = sys._getframe(), []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back  # type: ignore[assignment]
    return frames


# -- F3 --------------------------------------------------------------------------------------------
def test_f3_an_exception_in_a_step_voids_one_event_and_sounds_the_alarm() -> None:
    def broken(pool: Pool, subject: Subject, event: e.WorkerLeft, sequence: int, index: int) -> str:
        if event.reason == "boom":
            raise ZeroDivisionError("a bug of ours")
        return STEPS[e.WorkerLeft](pool, subject, event, sequence, index)

    boom, left = e.WorkerLeft(incarnation="i1", reason="boom"), e.WorkerLeft(incarnation="i1")
    world = World()
    world.fold = Fold("main", world.pool, {**STEPS, e.WorkerLeft: broken})
    assert world.say("worker.w", boom, boom, left, boom) == [
        "fold_error",
        "fold_error",
        "",
        "fold_error",
    ]
    assert isinstance(world.fold.error, ZeroDivisionError)
    assert world.pool.voids == {"fold_error": 3}
    assert world.pool.workers["w"].ended == "left"


def test_f3_an_exception_in_a_sweep_voids_the_event_it_was_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    run = world.submit(count=4)
    tokens = [world.assign(run, f"g-{index}") for index in range(4)]
    made = evolve_tasks.Finish

    def fragile(token: str, *rest: Any) -> Any:
        if token in (tokens[1], tokens[3]):
            raise ZeroDivisionError("a bug of ours")
        return made(token, *rest)

    monkeypatch.setattr(evolve_tasks, "Finish", fragile)
    data = encode_batch([finished(token) for token in tokens])
    judged = world.fold.apply(message(len(world.log) + 1, f"attempt.w.{run}", data))
    assert judged.voids == ["", "fold_error", "", "fold_error"]


def test_f3_what_a_sweep_counted_before_an_exception_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    run = world.submit(count=4)
    world.assign(run, "g-2")

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(evolve_tasks, "_close_ruled", broken)
    data = encode_batch([world.settlement(f"g-{index}") for index in range(4)])
    judged = world.fold.apply(message(len(world.log) + 1, f"ruling.{run}", data))
    assert judged.voids == ["", "", "fold_error", ""]
    assert world.run(run).settled_tasks == sum(world.run(run).counts.values()) == 4


@pytest.mark.parametrize("error", [MemoryError, RecursionError])
def test_f3_what_depends_on_the_machine_is_no_verdict_on_an_event(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> str:
        raise error

    world = World()
    monkeypatch.setattr(world.fold, "_stepper", fold.Stepper({**STEPS, e.WorkerLeft: exhausted}))
    with pytest.raises(error):
        world.say("worker.w", e.WorkerLeft(incarnation="i1"))


def test_f3_hostile_input_does_not_grow_the_state() -> None:
    world = World()
    before = (len(world.pool.runs), len(world.pool.workers), len(world.pool.open))
    for number in range(200):
        for subject in SUBJECTS:
            world.put(subject, b'[{"type":"Nonsense%d"}]' % number)
            world.put(f"{subject}.{number}", b"[{}]")
        bad_part = e.TasksSubmitted(part=0, group="g", spec=TaskSpec(command=[]))
        stray = e.CancelRequested(), e.RunSubmitted(key=f"{number}"), bad_part
        world.say(f"run.me.r{number}", *stray)
        world.say(f"attempt.w.r{number}", finished(f"t{number}"))
        world.say(f"worker.w{number}", e.WorkerLeft(incarnation="i"))
        world.say(f"ruling.r{number}", e.RunForgotten(term=9))
    assert (len(world.pool.runs), len(world.pool.workers), len(world.pool.open)) == before
    assert set(world.pool.voids) <= VOID_REASONS


def test_f3_every_reason_is_given_somewhere() -> None:
    """The set is closed (each world asserts it) and says nothing that no step says."""
    given = set()
    for module in (evolve_pool, evolve_runs, evolve_tasks, evolve_module, codec, fold):
        tree = ast.parse(inspect.getsource(module))
        texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        given |= {text for text in texts if text in VOID_REASONS}
    assert given == VOID_REASONS


# -- F5 --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", sorted(e.WRITERS))
def test_f5_an_event_counts_only_under_the_subjects_of_its_kind(kind: str) -> None:
    subject = {s.split(".")[0]: s for s in SUBJECTS}[kind]
    for event in SAMPLES.values():
        world = World()
        voids = world.say(subject, event)
        assert (voids == ["wrong_subject"]) == (type(event) not in e.WRITERS[kind]), (
            subject,
            event,
        )


def test_every_event_has_one_kind_of_subject_and_one_step() -> None:
    kinds = [kind for kinds in e.WRITERS.values() for kind in kinds]
    assert len(kinds) == len(set(kinds)) == len(STEPS) == len(SAMPLES)
    assert set(kinds) == set(STEPS) == set(SAMPLES) == set(get_args(e.LogEvent))


SAMPLES: dict[type, e.Event] = {
    type(event): event
    for event in (
        e.PoolCreated(uuid="u", name="main"),
        e.PoolConfigured(),
        e.DrainRequested(worker="w"),
        e.RunSubmitted(key="k"),
        e.TasksSubmitted(part=0, group="g", spec=SPEC),
        e.RunSealed(parts=1, tasks=1),
        e.CancelRequested(),
        joined("i2"),
        e.WorkerDraining(incarnation="i1"),
        e.WorkerLeft(incarnation="i1"),
        e.AttemptStarted(token="t"),
        e.CasesReported(token="t", n=0),
        e.CasesCollected(token="t", n=0, file="t.py", selected=1),
        e.ArtifactStored(token="t", n=0, path="p", digest="d", bytes=0),
        e.AttemptReturned(token="t"),
        finished("t"),
        e.LeaderElected(term=2, coordinator="c", nonce="n"),
        e.SubmissionRejected(term=1, reason="r"),
        e.TaskAssigned(term=1, run=RUN, token="t", incarnation="i1"),
        e.AttemptRevoked(term=1, run=RUN, token="t", mode="steal"),
        e.WorkerLost(term=1, incarnation="i1"),
        e.TaskRequeued(term=1, token="t", cause=Cause.TEST),
        e.TaskSettled(term=1, task="g-0", verdict=Verdict.PASSED),
        e.RangeSettled(
            term=1, group="g", start=0, stop=1, verdict=Verdict.PASSED, cause=Cause.DONE
        ),
        e.RunSettled(term=1, verdict="passed", counts={}),
        e.RunForgotten(term=1),
    )
}


@pytest.mark.parametrize("header", ["Nats-Stream", "nats-subject", "NATS-SEQUENCE"])
def test_f5_a_message_the_server_wrote_for_somebody_is_void(header: str) -> None:
    world = World()
    judged = world.put("worker.v", encode_batch([joined("i1"), joined("i2")]), {header: "x"})
    assert judged.voids == ["forged", "forged"]
    world.put(f"run.me.{RUN}", b"garbage", {header: "x"})
    assert world.pool.voids == {"forged": 3}


def test_f5_other_headers_are_nothing_to_the_fold() -> None:
    world = World()
    headers = {"Nats-Msg-Id": "1", "Nats-Expected-Stream": "DTF_main_LOG"}
    judged = world.put("worker.v", encode_batch([joined("i1")]), headers)
    assert judged.voids is NO_VOIDS


# -- F14 -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "subject",
    [
        "", "pool.x", "leader.x", "worker", "worker.", "worker.a.b", "worker._", "worker.a b",
        "worker.a\n", "worker.é", "worker.*", "worker.>", "worker." + "a" * 65, "worker.-a",
        "run.me", "run.me.r.x", "run..r", "attempt.w", "attempt._.r", "assign.w", "assign.cpu._x",
        "ruling._", "act.ci", "nothing.x", "POOL", ".dtf.other.pool", ".dtf.main", ".dtf.mainpool",
        ".x.main.pool", "." + "x" * 5000,
    ],
)  # fmt: skip
def test_f14_other_subjects_are_void(subject: str) -> None:
    world = World()
    judged = world.put(subject, encode_batch([e.WorkerLeft(incarnation="i1"), joined("i2")]))
    assert judged.subject is None
    assert judged.voids == ["subject", "subject"]


# -- shape -----------------------------------------------------------------------------------------
def test_judged_tells_message_subject_events_and_voids() -> None:
    world = World()
    judged = world.put("worker.v", encode_batch([joined("i1")]))
    assert judged.message is world.log[-1]
    assert judged.subject == Subject("worker", "v", "")
    assert isinstance(judged.events[0], e.WorkerJoined)
    assert judged.voids is NO_VOIDS


def test_many_events_that_all_count_have_as_many_judgements() -> None:
    world = World()
    world.valid("pool", *[e.PoolConfigured()] * (len(NO_VOIDS) + 1))


def test_a_step_alone_is_the_sweep_of_one_event() -> None:
    """`evolve` event by event and the fold message by message come to the same state."""
    world = World()
    run = world.submit(count=3)
    tokens = [f"g-{index}.1.1.x" for index in range(3)]
    world.valid("assign.cpu.w", *(world.assignment(run, token) for token in tokens))
    assert len(world.say(f"attempt.w.{run}", *map(finished, tokens), finished(tokens[0]))) == 4
    world.valid(f"ruling.{run}", *(world.settlement(f"g-{index}") for index in range(3)))
    alone = Pool("main")
    for stored in world.log:
        subject = world.fold.subjects.parse(stored.subject)
        assert subject is not None
        decoded = msgspec.json.decode(stored.data, type=list[e.LogEvent])
        for index, event in enumerate(decoded):
            void = evolve(alone, subject, event, stored.sequence, index)
            if void:
                alone.voids[void] = alone.voids.get(void, 0) + 1
        alone.sequence = stored.sequence
    assert digest(alone) == digest(world.pool)


def test_a_watched_step_sees_every_event_of_its_type() -> None:
    seen: list[tuple[str, int]] = []

    def watched(pool: Pool, subject: Subject, event: e.TaskSettled, *at: int) -> str:
        seen.append((event.task, pool.runs[subject.run].settled_tasks))
        return STEPS[e.TaskSettled](pool, subject, event, *at)

    world = World()
    run = world.submit(count=3)
    world.fold = Fold("main", world.pool, {**STEPS, e.TaskSettled: watched})
    world.valid(f"ruling.{run}", *(world.settlement(f"g-{index}") for index in range(3)))
    assert seen == [("g-0", 0), ("g-1", 1), ("g-2", 2)]


def test_numbers_beyond_python_s_text_limit_are_no_tasks() -> None:
    world = World()
    run = world.submit()
    world.void("unknown_task", f"run.me.{run}", e.CancelRequested(task="g-" + "9" * 120))
