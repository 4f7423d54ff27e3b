"""The life of an agent: joining, leaving, being lost, being replaced, losing its server."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from dtf.core import events as e
from dtf.core.codec import decode_batch, encode_batch
from dtf.core.model import Device, TaskSpec, Verdict
from dtf.worker.agent import Agent
from worker_pool import LIMIT_S, WorkerPool, worker_pool

SLEEP = TaskSpec(command=["sleep", "1000"])
TRUE = TaskSpec(command=["/bin/true"])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_it_joins_with_what_it_has_and_beats_with_what_it_holds(tmp_path: Path) -> None:
    device = Device(id="cuda:0", hardware="cuda", index=0, level="declared")
    async with worker_pool(
        tmp_path, labels={"rack": "b7"}, devices=(device,), hardware=("openvino",), beat_s=0.02
    ) as pool:
        (join,) = pool.told(e.WorkerJoined)
        assert join.hardware == ["cpu", "cuda", "openvino"]
        assert (join.cpu_milli, join.labels) == (2000, {"rack": "b7"})
        assert [d.id for d in join.devices] == ["cuda:0", "openvino:0"]
        assert (join.server_id, join.client_id) == ("SERVER", 7)
        assert join.memory_bytes > 0
        assert join.platform["system"]
        token = pool.assign(SLEEP)
        beat = await pool.until(lambda: [b for b in pool.beats() if b.held])
        assert beat[0].held == [f"run1/{token}"]
        assert beat[0].incarnation == join.incarnation
        assert beat[0].sequence == pool.log.messages[-1].sequence or pool.told(e.AttemptStarted)
        assert (beat[0].server_id, beat[0].client_id) == ("SERVER", 7)
        assert pool.telemetry.messages[0].subject == "dtf.main.beat.w1"
    assert pool.told(e.WorkerLeft)


async def test_an_attempt_is_held_until_its_end_is_stored(tmp_path: Path) -> None:
    async with worker_pool(tmp_path, beat_s=0.01) as pool:
        pool.log.hold()
        token = pool.assign(TRUE)
        await pool.finished(token)
        before = len(pool.beats())
        await pool.until(lambda: len(pool.beats()) > before + 1)
        assert pool.beats()[-1].held == [f"run1/{token}"]
        pool.log.let_go()
        await pool.until(lambda: not pool.beats()[-1].held)


async def test_devices_of_a_task_are_the_only_ones_it_sees(tmp_path: Path) -> None:
    devices = tuple(
        Device(id=f"GPU-{i}", hardware="cuda", index=i, level="declared") for i in range(2)
    )
    async with worker_pool(tmp_path, devices=devices) as pool:
        show = TaskSpec(
            command=["sh", "-c", "echo $DTF_HARDWARE/$DTF_DEVICES/$CUDA_VISIBLE_DEVICES"]
        )
        end = await pool.run(show, devices=["GPU-1"])
        assert end.output is not None
        assert end.output.tail == "cpu/GPU-1/GPU-1\n"
        end = await pool.run(show, task="t-1")
        assert end.output is not None
        assert end.output.tail == "cpu//\n", "a task without devices sees none"


async def test_cancel_really_stops_the_processes(tmp_path: Path) -> None:
    async with worker_pool(tmp_path) as pool:
        script = "(setsid sleep 1000 & echo $!); sleep 1000 & echo $!; echo $$; wait"
        token = pool.assign(TaskSpec(command=["sh", "-c", script]))
        await pool.until(lambda: len("".join(c.text for c in pool.live_output()).split()) == 3)
        pids = [int(pid) for pid in "".join(c.text for c in pool.live_output()).split()]
        assert all(alive(pid) for pid in pids)
        pool.revoke(token, "cancel")
        end = await pool.finished(token)
        assert end.verdict is Verdict.CANCELLED
        await pool.until(lambda: not any(alive(pid) for pid in pids))


async def test_a_drain_ends_what_runs_gives_back_what_waits_and_leaves(tmp_path: Path) -> None:
    pool = WorkerPool(tmp_path, cpu_milli=1000)
    running = asyncio.create_task(pool.agent.run())
    await pool.agent.joined.wait()
    flag = tmp_path / "flag"
    wait = TaskSpec(command=["sh", "-c", f"while [ ! -e {flag} ]; do sleep 0.01; done"])
    first, second = pool.assign(wait), pool.assign(wait, task="t-1")
    await pool.until(lambda: pool.told(e.AttemptStarted, first))
    pool.agent.stop(reason="SIGTERM")
    await pool.until(lambda: pool.told(e.AttemptReturned, second))
    assert pool.told(e.WorkerDraining)[0].reason == "SIGTERM"
    assert not running.done()
    flag.touch()
    async with asyncio.timeout(LIMIT_S):
        assert await running == 0
    assert (await pool.finished(first)).verdict is Verdict.PASSED
    kinds = [type(x) for m in pool.log.messages for x in decode_batch(m.data)]
    assert kinds[-1] is e.WorkerLeft, "after everything else"


async def test_an_idle_agent_leaves_at_once_when_drained(tmp_path: Path) -> None:
    pool = WorkerPool(tmp_path)
    running = asyncio.create_task(pool.agent.run())
    await pool.agent.joined.wait()
    pool.agent.stop()
    async with asyncio.timeout(LIMIT_S):
        assert await running == 0
    assert pool.told(e.WorkerLeft)


@pytest.mark.parametrize("how", ["timeout", "second signal"])
async def test_a_drain_that_takes_too_long_kills_and_says_nothing_of_the_attempt(
    tmp_path: Path, how: str
) -> None:
    pool = WorkerPool(tmp_path, drain_timeout_s=0.1 if how == "timeout" else None)
    running = asyncio.create_task(pool.agent.run())
    await pool.agent.joined.wait()
    token = pool.assign(SLEEP)
    await pool.until(lambda: pool.told(e.AttemptStarted, token))
    pool.agent.stop()
    if how == "second signal":
        pool.agent.stop(drain=False)
    async with asyncio.timeout(LIMIT_S):
        assert await running == 0
    assert not pool.told(e.AttemptFinished, token), "the leader requeues it: it was not cancelled"
    assert pool.told(e.WorkerLeft)


async def test_a_newer_agent_of_the_name_ends_the_older_one(tmp_path: Path) -> None:
    pool = WorkerPool(tmp_path)
    running = asyncio.create_task(pool.agent.run())
    await pool.agent.joined.wait()
    token = pool.assign(SLEEP)
    await pool.until(lambda: pool.told(e.AttemptStarted, token))
    newer = Agent(None, pool.options, pool.links)
    second = asyncio.create_task(newer.run())
    async with asyncio.timeout(LIMIT_S):
        assert await running != 0
        await newer.joined.wait()
    assert not pool.told(e.WorkerLeft), "it is not this one's to say"
    newer.stop(drain=False)
    await second


async def test_a_lost_agent_kills_everything_and_joins_anew(tmp_path: Path) -> None:
    async with worker_pool(tmp_path) as pool:
        token = pool.assign(TaskSpec(command=["sh", "-c", "echo $$; exec sleep 1000"]))
        await pool.until(pool.live_output)
        pid = int(pool.live_output()[0].text)
        old = pool.agent.machine.incarnation
        pool.say(e.WorkerLost(term=1, incarnation=old, reason="silent"))
        await pool.until(lambda: len(pool.told(e.WorkerJoined)) == 2 and pool.agent.joined.is_set())
        assert not alive(pid)
        assert not pool.told(e.AttemptFinished, token), "the leader rules on it"
        assert pool.agent.machine.incarnation != old
        pool._sent.clear()
        assert (await pool.run(TRUE, task="t-5")).verdict is Verdict.PASSED


async def test_results_wait_for_a_log_that_does_not_answer(tmp_path: Path) -> None:
    async with worker_pool(tmp_path) as pool:
        token = pool.assign(TaskSpec(command=["sh", "-c", "sleep 0.2; echo done"]))
        await pool.until(lambda: pool.agent.machine.attempts)
        pool.log.offline = True
        await pool.until(lambda: not pool.agent.machine.running)
        assert not pool.told(e.AttemptFinished, token)
        pool.log.offline = False
        end = await pool.finished(token)
        assert end.output is not None
        assert end.output.tail == "done\n"


async def test_no_beat_without_a_connection_and_one_at_once_when_it_is_back(tmp_path: Path) -> None:
    async with worker_pool(tmp_path, beat_s=1000.0) as pool:
        await pool.until(pool.beats)
        pool.connected = False
        pool.agent._heart.beat()
        assert len(pool.beats()) == 1
        pool.connected = True
        for callback in pool.links.on_reconnect:
            callback()
        await pool.until(lambda: len(pool.beats()) == 2)


async def test_garbage_and_forged_messages_change_nothing(tmp_path: Path) -> None:
    async with worker_pool(tmp_path) as pool:
        machine = pool.agent.machine
        forged = e.TaskAssigned(
            term=1, run="r", token="x-0.1.1.n", incarnation=machine.incarnation, spec=TRUE
        )
        subject = pool.subjects.assign("cpu", "w1")
        for data in (b"", b"\xff", b"{}", b"[1,2]", b'[{"type":"TaskAssigned"}]', b"[" * 10_000):
            pool.log.write(subject, data)
        pool.log.write(subject, encode_batch([forged]), {"Nats-Stream": "DTF_main_LOG"})
        pool.log.write(subject, encode_batch([e.RunForgotten(term=1)]))
        assert (await pool.run(TRUE)).verdict is Verdict.PASSED
        assert [m.token for m in pool.told(e.AttemptFinished)] == ["t-0.1.1.n1"]


async def test_scratch_of_an_agent_that_died_is_removed_by_the_next(tmp_path: Path) -> None:
    dead = tmp_path / "attempts" / "dead"
    (dead / "1").mkdir(parents=True)
    (dead / "1" / "file").write_text("x")
    dead.with_suffix(".lock").touch()
    async with worker_pool(tmp_path) as pool, worker_pool(tmp_path, name="w2") as other:
        await pool.until(lambda: not dead.exists())
        assert (await pool.run(TRUE)).verdict is Verdict.PASSED
        assert (await other.run(TRUE)).verdict is Verdict.PASSED, "who lives keeps its own"


async def test_an_event_the_log_refuses_for_good_stops_nothing(tmp_path: Path) -> None:
    async with worker_pool(tmp_path) as pool:
        pool.log.refuse = lambda subject, data: "no" if "run2" in subject else ""
        pool.assign(TRUE, run="run2")
        assert (await pool.run(TRUE, task="t-1")).verdict is Verdict.PASSED


async def test_a_failing_reader_ends_the_agent_with_its_error(tmp_path: Path) -> None:
    pool = WorkerPool(tmp_path)

    def broken(*_: Any, **__: Any) -> Any:
        raise OSError("the log is gone")

    pool.log.read = broken  # type: ignore[method-assign]
    with pytest.raises(OSError, match="the log is gone"):
        await pool.agent.run()
