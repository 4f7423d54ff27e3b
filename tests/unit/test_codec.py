"""Bytes and events: what is written can be read, and a message is judged by its bytes alone."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from dtf.core import codec
from dtf.core import events as e
from dtf.core.codec import (
    BATCH_EVENTS_MAX,
    Undecodable,
    decode_batch,
    decode_telemetry,
    encode_batch,
    encode_event,
    join_batch,
)
from dtf.core.model import ABSENT, Verdict
from dtf.core.nesting import DEPTH_MAX, nests_deeper, without_deep
from msgspec import Raw
from worlds import finished, joined


def test_a_batch_is_read_as_it_was_written() -> None:
    events = [joined("i1", labels={"site": "lab ü"}), finished("t", value=Raw(b'{"a": [1]}'))]
    back = decode_batch(encode_batch(events))
    assert encode_batch(list(back)) == encode_batch(events)  # type: ignore[arg-type]
    assert join_batch(map(encode_event, events)) == encode_batch(events)


def test_absent_values_are_left_out_and_come_back_absent() -> None:
    data = encode_event(finished("t"))
    assert b"value" not in data
    (event,) = decode_batch(data)
    assert isinstance(event, e.AttemptFinished)
    assert bytes(event.value) == bytes(ABSENT)


def test_defaults_are_left_out() -> None:
    assert encode_event(e.AttemptStarted(token="t")) == b'{"type":"AttemptStarted","token":"t"}'


def test_any_writer_of_json_will_do() -> None:
    text = json.dumps(
        [{"token": "t", "verdict": "passed", "duration_us": 1, "type": "AttemptFinished"}], indent=2
    )
    assert decode_batch(text.encode()) == [finished("t", duration_us=1)]


def test_enumerations_are_read_by_value() -> None:
    (event,) = decode_batch(encode_event(finished("t", verdict=Verdict.TIMED_OUT)))
    assert isinstance(event, e.AttemptFinished)
    assert event.verdict is Verdict.TIMED_OUT


@pytest.mark.parametrize("data", [b"", b"garbage", b"[1]", b'[{"type":"WorkerLeft"}]', b"[" * 9999])
def test_telemetry_that_cannot_be_read_is_none(data: bytes) -> None:
    assert decode_telemetry(data) == []


def test_what_cannot_be_read_says_where_within_bounds() -> None:
    (bad,) = decode_batch(b'[{"type":"%s"}]' % (b"x" * 5000))
    assert isinstance(bad, Undecodable)
    assert 0 < len(bad.detail) <= 256


# -- nesting ---------------------------------------------------------------------------------------
def depth(value: Any) -> int:
    if not isinstance(value, list | dict):
        return 0
    inner = value if isinstance(value, list) else value.values()
    return 1 + max(map(depth, inner), default=0)


SCALARS = [1, None, '"', "{", '}\\"[', "\\", '\\\\"', "a\n]", "{}{", "[[[[[[[["]


def nested(rng: random.Random, levels: int) -> Any:
    if levels == 0 or rng.random() < 0.25:
        return rng.choice(SCALARS)
    inner = [nested(rng, levels - 1) for _ in range(rng.randrange(4))]
    if rng.random() < 0.5:
        return inner
    return {rng.choice(["a", "}", '"{', "\\"]) + str(n): each for n, each in enumerate(inner)}


@pytest.mark.parametrize("seed", range(300))
def test_nesting_is_measured_exactly_whatever_strings_hold(seed: int) -> None:
    rng = random.Random(seed)
    value = nested(rng, rng.randrange(14))
    text = json.dumps(value, indent=rng.choice([None, 1])).encode()
    for limit in range(12):
        assert nests_deeper(text, limit) == (depth(value) > limit), (seed, limit)
        elements = (
            [0 if depth(each) > limit else each for each in value]
            if isinstance(value, list)
            else None
        )
        expected = elements if elements is not None else 0 if depth(value) > limit else value
        assert json.loads(without_deep(text, limit)) == expected, (seed, limit)


@pytest.mark.parametrize("levels", [DEPTH_MAX, DEPTH_MAX + 1])
@pytest.mark.parametrize("alone", [True, False])
def test_an_element_may_nest_to_the_limit(levels: int, alone: bool) -> None:
    value = Raw(b"[" * (levels - 1) + b"]" * (levels - 1))
    element = encode_event(finished("t", value=value))
    events = decode_batch(element if alone else join_batch([element]))
    assert isinstance(events[0], Undecodable) == (levels > DEPTH_MAX)


def test_brackets_inside_strings_nest_nothing() -> None:
    many = [finished("t", message="[" * 2000, value=Raw(b'"' + b"{[" * 999 + b'"'))] * 3
    assert decode_batch(encode_batch(many)) == many


@pytest.mark.parametrize("count", [BATCH_EVENTS_MAX, BATCH_EVENTS_MAX + 1])
def test_full_messages_of_ours_are_read_without_a_closer_look(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parameters or a position in each event are no reason to measure how deep a message nests."""
    looked: list[int] = []
    monkeypatch.setattr(codec, "nests_deeper", lambda data, depth_max: looked.append(len(data)))
    params = Raw(b'{"i":1}')
    given = e.TaskAssigned(term=1, run="r", token="t", incarnation="i", params=params)
    decode_batch(encode_batch([given] * count))
    assert bool(looked) == (count > BATCH_EVENTS_MAX)
