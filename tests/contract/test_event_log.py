"""What every `EventLog` promises: one suite, run on the twin in memory and on JetStream."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from dtf.core.errors import AppendRefused, LogGap, LogUnavailable
from dtf.core.ids import random_id
from dtf.core.ports import Appended, EventLog, LogTail, Message

from .conftest import SUBJECTS, LogHarness

ATTEMPT = SUBJECTS.attempt("w1", "r1")
RULING = SUBJECTS.ruling("r1")


async def put(log: EventLog, subject: str, *texts: str) -> list[int]:
    """The texts are stored in order; their sequences."""
    return [(await log.append(subject, t.encode(), random_id(26))).sequence for t in texts]


async def read(
    log: EventLog, count: int, filters: list[str] | None = None, after: int = 1
) -> list[Message]:
    """The first `count` messages behind `after`."""
    found: list[Message] = []
    async with asyncio.timeout(20), aclosing(log.read(filters or [], after)) as batches:
        while len(found) < count:
            batch = await anext(batches)
            assert batch, "a batch is never empty"
            found += batch
    return found


async def test_appends_are_numbered_one_by_one_and_read_back_in_order(log: LogHarness) -> None:
    assert await put(log.log, ATTEMPT, "a", "b", "c") == [2, 3, 4]
    found = await read(log.log, 3)
    assert [(m.sequence, m.subject, m.data) for m in found] == [
        (2, ATTEMPT, b"a"),
        (3, ATTEMPT, b"b"),
        (4, ATTEMPT, b"c"),
    ]
    assert all(m.time_ns > 0 and m.headers is None for m in found)


async def test_the_same_message_id_stores_once_and_says_duplicate(log: LogHarness) -> None:
    first = await log.log.append(ATTEMPT, b"a", "same-id")
    again = await log.log.append(ATTEMPT, b"a", "same-id")
    assert (first, again) == (Appended(2, False), Appended(2, True))
    assert await log.log.tail() == LogTail(1, 2)


async def test_append_soon_answers_later_once_each_and_keeps_the_order(log: LogHarness) -> None:
    answers: list[tuple[int, int]] = []
    all_in = asyncio.get_running_loop().create_future()

    def done(index: int, result: Appended | Exception) -> None:
        assert isinstance(result, Appended)
        answers.append((index, result.sequence))
        if len(answers) == 200:
            all_in.set_result(None)

    for index in range(200):
        log.log.append_soon(ATTEMPT, b"[]", random_id(26), lambda result, i=index: done(i, result))
        assert answers == [], "an answer never comes before append_soon returns"
    await all_in
    assert answers == [(index, index + 2) for index in range(200)]


async def test_refusals_are_for_good_and_name_the_value(log: LogHarness) -> None:
    for subject, data in (
        ("a subject", b"[]"),
        ("", b"[]"),
        (SUBJECTS.attempt("*", "r"), b"[]"),
        ("dtf.main.elsewhere", b"[]"),
        (ATTEMPT, b"x" * (log.payload_max + 1)),
    ):
        with pytest.raises(AppendRefused):
            await log.log.append(subject, data, random_id(26))
    assert await log.log.tail() == LogTail(1, 1)


async def test_filters_select_by_token_and_a_reader_starts_after_its_position(
    log: LogHarness,
) -> None:
    other = SUBJECTS.attempt("w2", "r2")
    await put(log.log, ATTEMPT, "a")
    await put(log.log, RULING, "b")
    await put(log.log, other, "c")
    await put(log.log, SUBJECTS.leader, "d")
    by_run = await read(log.log, 2, [SUBJECTS.attempt("*", "r1"), RULING], after=0)
    assert [m.data for m in by_run] == [b"a", b"b"]
    assert [m.data for m in await read(log.log, 2, ["dtf.main.attempt.>"], after=0)] == [b"a", b"c"]
    assert [m.data for m in await read(log.log, 2, ["dtf.main.>"], after=3)] == [b"c", b"d"]


async def test_a_reader_waits_for_what_is_written_later(log: LogHarness) -> None:
    async with asyncio.timeout(20), aclosing(log.log.read([RULING], 1)) as batches:
        waiting = asyncio.ensure_future(anext(batches))
        await put(log.log, ATTEMPT, "not for it")
        await put(log.log, RULING, "a")
        assert [m.data for m in await waiting] == [b"a"]
        waiting = asyncio.ensure_future(anext(batches))
        await put(log.log, RULING, "b")
        assert [m.data for m in await waiting] == [b"b"]


async def test_readers_do_not_take_from_each_other(log: LogHarness) -> None:
    await put(log.log, ATTEMPT, "a", "b")
    both = await asyncio.gather(read(log.log, 2), read(log.log, 2))
    assert both[0] == both[1]
    assert [m.data for m in both[0]] == [b"a", b"b"]


async def test_many_messages_arrive_whole_in_order_and_in_batches(log: LogHarness) -> None:
    count, done = 5000, asyncio.get_running_loop().create_future()
    left = count

    def stored(result: Appended | Exception) -> None:
        nonlocal left
        assert isinstance(result, Appended)
        left -= 1
        if not left:
            done.set_result(None)

    for index in range(count):
        log.log.append_soon(ATTEMPT, b"%d" % index, random_id(26), stored, timeout=20)
    await done
    found = await read(log.log, count)
    assert [m.data for m in found] == [b"%d" % index for index in range(count)]


async def test_a_purged_position_is_a_gap_for_an_unfiltered_reader_only(log: LogHarness) -> None:
    await put(log.log, ATTEMPT, "a", "b", "c")
    await log.purge_before(4)
    with pytest.raises(LogGap):
        await read(log.log, 1, after=1)
    assert [m.data for m in await read(log.log, 1, after=3)] == [b"c"]
    assert [m.data for m in await read(log.log, 1, [ATTEMPT], after=1)] == [b"c"]


async def test_a_position_behind_the_end_is_a_gap(log: LogHarness) -> None:
    with pytest.raises(LogGap):
        await read(log.log, 1, after=7)


async def test_a_log_purged_to_the_end_is_a_gap_at_once(log: LogHarness) -> None:
    await put(log.log, ATTEMPT, "a", "b")
    await log.purge_before(4)
    assert await log.log.tail() == LogTail(4, 3)
    with pytest.raises(LogGap):
        await read(log.log, 1, after=1)


async def test_get_gives_one_message_or_none(log: LogHarness) -> None:
    await put(log.log, ATTEMPT, "a")
    stored = (await read(log.log, 1))[0]
    assert await log.log.get(2) == stored
    assert await log.log.get(3) is None
    assert await log.log.get(0) is None
    await log.purge_before(3)
    assert await log.log.get(2) is None


async def test_without_the_server_an_append_is_unavailable_and_may_be_sent_again(
    log: LogHarness,
) -> None:
    await log.away()
    with pytest.raises(LogUnavailable):
        await log.log.append(ATTEMPT, b"a", "an-id", timeout=0.3)
    await log.back()
    async with asyncio.timeout(20):
        while True:
            try:
                stored = await log.log.append(ATTEMPT, b"a", "an-id")
                break
            except LogUnavailable:
                continue
    assert stored.sequence == 2


async def test_cancelling_a_waiting_reader_leaves_the_log_usable(log: LogHarness) -> None:
    waiting = asyncio.ensure_future(read(log.log, 1))
    await put(log.log, RULING, "a")
    await waiting
    stuck = asyncio.ensure_future(read(log.log, 99))
    await asyncio.sleep(0)
    stuck.cancel()
    await asyncio.wait([stuck])
    assert await put(log.log, RULING, "b") == [3]
