"""Group commit on the log in memory: order, grouping, and every way an append can go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from dtf.core.adapters.memory import MemoryLog
from dtf.core.errors import AppendRefused, LogUnavailable
from dtf.core.events import CancelRequested
from dtf.core.ports import Appended
from dtf.core.writer import GroupWriter


def event(number: int) -> bytes:
    return b'{"n":%d}' % number


def numbers(log: MemoryLog, subject: str = "s") -> list[list[int]]:
    """Message by message, the numbers of the events stored under a subject."""
    return [
        [element["n"] for element in msgspec.json.decode(message.data)]
        for message in log.messages
        if message.subject == subject
    ]


async def ticks(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_an_idle_event_leaves_at_the_next_tick_alone() -> None:
    log = MemoryLog()
    writer = GroupWriter(log)
    writer.put("s", CancelRequested(reason="r"))
    assert log.messages == []
    await asyncio.sleep(0)
    assert [m.data for m in log.messages] == [b'[{"type":"CancelRequested","reason":"r"}]']
    await writer.flushed()
    assert writer.pending == 0


async def test_events_of_one_tick_share_a_message() -> None:
    log = MemoryLog()
    writer = GroupWriter(log)
    for number in range(10):
        writer.put_encoded("s", event(number))
    await writer.flushed()
    assert numbers(log) == [list(range(10))]


async def test_one_message_is_unacknowledged_per_subject_and_the_next_takes_all_that_waits() -> (
    None
):
    log = MemoryLog()
    log.hold()
    writer = GroupWriter(log)
    writer.put_encoded("s", event(0))
    writer.put_encoded("other", event(100))
    await ticks()
    for number in range(1, 8):
        writer.put_encoded("s", event(number))
        await ticks()
    assert numbers(log) == [[0]]
    assert numbers(log, "other") == [[100]], "subjects do not wait for each other"
    log.let_go()
    await writer.flushed()
    assert numbers(log) == [[0], list(range(1, 8))]


async def test_messages_are_cut_by_count_and_by_bytes() -> None:
    log = MemoryLog()
    writer = GroupWriter(log, events_max=4)
    for number in range(10):
        writer.put_encoded("s", event(number))
    await writer.flushed()
    assert [len(group) for group in numbers(log)] == [4, 4, 2]
    log = MemoryLog()
    writer = GroupWriter(log, bytes_max=100)
    for size in (20, 20, 20, 300, 20):
        writer.put_encoded("s", b'"' + b"x" * size + b'"')
    await writer.flushed()
    assert [len(msgspec.json.decode(m.data)) for m in log.messages] == [3, 1, 1]
    assert all(len(m.data) <= 100 for m in log.messages if len(m.data) < 300)


async def test_each_event_hears_its_position_when_it_is_durable() -> None:
    log = MemoryLog()
    log.hold()
    writer = GroupWriter(log)
    heard: list[tuple[int, int, int]] = []

    def listener(number: int) -> Callable[[int, int], None]:
        return lambda sequence, index: heard.append((number, sequence, index))

    for number in range(3):
        writer.put_encoded("s", event(number), listener(number))
    await ticks()
    writer.put_encoded("s", event(3), listener(3))
    assert (heard, writer.pending) == ([], 4)
    log.let_go()
    await writer.flushed()
    assert heard == [(0, 1, 0), (1, 1, 1), (2, 1, 2), (3, 2, 0)]


async def test_a_lost_answer_is_asked_again_under_the_same_id_and_stores_once() -> None:
    log = MemoryLog()
    log.lose_answers = 3
    writer = GroupWriter(log)
    heard: list[tuple[int, int]] = []
    writer.put_encoded("s", event(0), lambda s, i: heard.append((s, i)))
    await writer.flushed()
    assert (numbers(log), heard) == ([[0]], [(1, 0)])


async def test_a_log_that_comes_back_gets_everything_in_order() -> None:
    log = MemoryLog()
    log.offline = True
    writer = GroupWriter(log)
    for number in range(5):
        writer.put_encoded("s", event(number))
        await ticks()
    assert (log.messages, writer.pending) == ([], 5)
    log.offline = False
    await writer.flushed()
    assert numbers(log) == [[0], [1, 2, 3, 4]]


async def test_a_refused_event_stands_alone_and_its_neighbours_are_stored_in_order() -> None:
    log = MemoryLog()
    log.refuse = lambda subject, data: "bad" if b'"n":5}' in data else ""
    errors: list[Exception] = []
    writer = GroupWriter(log, on_error=errors.append)
    heard: list[int] = []
    for number in range(10):
        writer.put_encoded("s", event(number), lambda s, i, n=number: heard.append(n))
    writer.put_encoded("other", event(0))
    await writer.flushed()
    assert [n for group in numbers(log) for n in group] == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert heard == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert [type(error) for error in errors] == [AppendRefused]
    assert writer.pending == 0


async def test_a_message_id_somebody_used_before_us_is_replaced() -> None:
    class Hostile(MemoryLog):
        stolen = 0

        def append_soon(
            self,
            subject: str,
            data: bytes,
            message_id: str,
            done: Callable[[Appended | Exception], None],
            *,
            timeout: float = 2.0,
        ) -> None:
            if not self.stolen:
                self.stolen = self._ids[message_id] = self.write("theirs", b"[]")
            super().append_soon(subject, data, message_id, done, timeout=timeout)

    log = Hostile()
    writer = GroupWriter(log)
    heard: list[tuple[int, int]] = []
    writer.put_encoded("s", event(0), lambda s, i: heard.append((s, i)))
    await writer.flushed()
    assert (numbers(log), heard) == ([[0]], [(2, 0)])


async def test_room_holds_back_whoever_puts_too_much() -> None:
    log = MemoryLog()
    log.hold()
    writer = GroupWriter(log)
    for number in range(10):
        writer.put_encoded("s", event(number))
    await writer.room(11)
    waiting = asyncio.ensure_future(writer.room(10))
    await ticks()
    assert not waiting.done()
    log.let_go()
    await waiting


async def test_a_listeners_bug_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    log = MemoryLog()
    errors: list[Exception] = []
    writer = GroupWriter(log, on_error=errors.append)
    heard: list[int] = []

    def fail(sequence: int, index: int) -> None:
        raise ZeroDivisionError

    writer.put_encoded("s", event(0), fail)
    writer.put_encoded("s", event(1), lambda s, i: heard.append(i))
    await writer.flushed()
    assert (heard, len(errors)) == ([1], 1)
    assert "ZeroDivisionError" in caplog.text


async def test_closing_tells_whoever_waits_and_sends_nothing_more() -> None:
    log = MemoryLog()
    log.offline = True
    writer = GroupWriter(log)
    writer.put_encoded("s", event(0))
    waiting = asyncio.ensure_future(writer.flushed())
    await ticks()
    await writer.aclose()
    await writer.aclose()
    log.offline = False
    with pytest.raises(LogUnavailable, match="1 events pending"):
        await waiting
    with pytest.raises(RuntimeError):
        writer.put_encoded("s", event(1))
    assert log.messages == []


async def test_many_subjects_at_once_are_bounded_on_the_way_and_forgotten_after() -> None:
    log = MemoryLog()
    log.hold()
    writer = GroupWriter(log)
    for number in range(2000):
        writer.put_encoded(f"s{number}", event(number))
    await ticks()
    assert len(log.messages) == 256
    assert len(asyncio.all_tasks()) == 1, "no task per event or message"
    log.let_go()
    await writer.flushed()
    assert len(log.messages) == 2000
    assert writer._lanes == {}


async def test_lingering_gathers_what_comes_within_the_time() -> None:
    log = MemoryLog()
    writer = GroupWriter(log)
    writer.put_encoded("s", event(0), linger_s=30)
    await ticks(20)
    writer.put_encoded("s", event(1), linger_s=30)
    await ticks(20)
    assert numbers(log) == []
    await writer.flushed()
    assert numbers(log) == [[0, 1]]


async def test_an_event_in_a_hurry_takes_along_what_lingers() -> None:
    log = MemoryLog()
    writer = GroupWriter(log)
    writer.put_encoded("s", event(0), linger_s=30)
    writer.put_encoded("s", event(1))
    await writer.flushed()
    assert numbers(log) == [[0, 1]]


async def test_what_lingers_is_sent_when_its_time_is_over() -> None:
    log = MemoryLog()
    writer = GroupWriter(log)
    done = asyncio.get_running_loop().create_future()
    writer.put_encoded("s", event(0), lambda *at: done.set_result(at), linger_s=0.001)
    await done
    assert numbers(log) == [[0]]


async def test_a_full_message_does_not_linger() -> None:
    log = MemoryLog()
    writer = GroupWriter(log, events_max=2)
    for number in range(2):
        writer.put_encoded("s", event(number), linger_s=30)
    await ticks(20)
    assert numbers(log) == [[0, 1]]
    await writer.flushed()
