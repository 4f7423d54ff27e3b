"""The process supervisor with real processes: nothing an attempt starts is ever lost sight of."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from dtf.worker.processes import Facts, Listener, Order, Processes
from dtf.worker.supervising.table import process_table

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX processes")
LIMIT_S = 30.0
MS = 1_000_000


class Heard(Listener):
    """What was told about one attempt."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.done: asyncio.Future[Facts] = loop.create_future()
        self.refused: asyncio.Future[tuple[str, str]] = loop.create_future()
        self.started: asyncio.Future[int] = loop.create_future()
        self.returned: asyncio.Future[None] = loop.create_future()
        self.live = bytearray()
        self.dropped = 0

    def on_started(self, pid: int) -> None:
        self.started.set_result(pid)

    def on_output(self, data: bytes, dropped: int) -> None:
        self.live += data
        self.dropped += dropped

    def on_done(self, facts: Facts) -> None:
        self.done.set_result(facts)

    def on_refused(self, stage: str, text: str) -> None:
        self.refused.set_result((stage, text))

    def on_returned(self) -> None:
        self.returned.set_result(None)


class Bench:
    """A supervisor and a folder to work in."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self.processes = processes
        self.folder = folder
        self.keys = 0

    def start(self, *argv: str, **given: Any) -> Heard:
        self.keys += 1
        scratch = str(self.folder / f"s{self.keys}")
        os.mkdir(scratch, 0o700)
        fields: dict[str, Any] = {
            "slot": self.keys,
            "argv": list(argv),
            "env": {},
            "marker": f"test.{self.keys}",
            "cwd": scratch,
            "scratch": scratch,
            "output_path": scratch + ".output",
            "output_max": 1 << 20,
            "wall_ns": 60_000 * MS,
            "grace_ns": 200 * MS,
            **given,
        }
        heard = Heard()
        self.processes.run(self.keys, Order(**fields), heard)
        return heard

    async def sh(self, script: str, **given: Any) -> Facts:
        """The end of a shell script."""
        async with asyncio.timeout(LIMIT_S):
            return await self.start("/bin/sh", "-c", script, **given).done


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    processes = Processes()
    processes.start()
    yield Bench(processes, tmp_path)
    pid = processes.pid
    await processes.close()
    assert not [p for p in process_table().values() if p.parent == pid]


async def one_of(heard: Heard) -> str:
    """How the attempt came to its end."""
    ends: list[asyncio.Future[Any]] = [heard.done, heard.refused, heard.returned]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if heard.done.done():
        return f"code {heard.done.result().code}"
    return "refused" if heard.refused.done() else "returned"


def alive(pid: int) -> bool:
    """Whether the process lives; a zombie does not."""
    table = process_table()
    return pid in table and not table[pid].zombie


async def gone(pid: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while alive(pid):  # noqa: ASYNC110 (the process table tells nobody when it changes)
            await asyncio.sleep(0.005)


async def test_output_of_both_streams_comes_in_the_order_it_was_written(bench: Bench) -> None:
    facts = await bench.sh("for i in 1 2 3 4 5; do echo out$i; echo err$i >&2; done; exit 3")
    assert facts.head == b"".join(b"out%d\nerr%d\n" % (i, i) for i in range(1, 6))
    assert (facts.code, facts.why, facts.scratch_left) == (3, "", False)
    assert facts.cpu_us > 0


async def test_a_scratch_directory_with_something_in_it_is_left_to_the_agent(bench: Bench) -> None:
    facts = await bench.sh("echo x > file; pwd")
    assert facts.scratch_left
    assert (bench.folder / "s1" / "file").read_text() == "x\n"
    assert facts.head.decode().strip() == str(bench.folder / "s1")


async def test_a_program_that_does_not_exist_is_refused_with_its_name(bench: Bench) -> None:
    async with asyncio.timeout(LIMIT_S):
        stage, text = await bench.start("no-such-program").refused
        assert stage == "program"
        assert "no-such-program" in text
        stage, text = await bench.start("/bin/true", cwd=str(bench.folder / "nowhere")).refused
        assert stage == "setup"


async def test_long_output_is_stored_up_to_the_limit_and_the_pipe_is_drained(bench: Bench) -> None:
    facts = await bench.sh("head -c 5000000 /dev/zero | tr '\\0' x", output_max=100_000)
    stored = bench.folder / "s1.output"
    assert facts.code == 0
    assert facts.output_bytes == 5_000_000
    assert facts.stored == stored.stat().st_size == 100_000
    assert facts.tail == b"x" * 4096


async def test_live_output_is_sent_while_the_process_runs(bench: Bench) -> None:
    heard = bench.start("/bin/sh", "-c", "echo one; sleep 0.1; echo two; exec sleep 100")
    async with asyncio.timeout(LIMIT_S):
        while heard.live != b"one\ntwo\n":  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert heard.started.done()
    bench.processes.kill(1, soft=False)
    assert (await heard.done).why == "killed"


async def test_a_flood_of_output_is_not_shown_whole_but_counted(bench: Bench) -> None:
    heard = bench.start("/bin/sh", "-c", "head -c 20000000 /dev/zero; sleep 0.1")
    facts = await heard.done
    assert len(heard.live) + heard.dropped == facts.output_bytes == 20_000_000
    assert heard.dropped > 0


async def test_orders_of_one_slot_run_one_after_the_other(bench: Bench) -> None:
    script = "[ -e busy ] && exit 9; touch busy; sleep 0.001; rm busy"
    cwd = str(bench.folder)
    heard = [bench.start("/bin/sh", "-c", script, slot=1, cwd=cwd) for _ in range(6)]
    async with asyncio.timeout(LIMIT_S):
        ended = [await one_of(each) for each in heard]
    assert "code 9" not in ended
    assert ended[0] == "code 0"


async def test_who_waits_behind_a_long_one_is_returned(bench: Bench) -> None:
    long = bench.start("sleep", "1000", slot=1)
    behind = [bench.start("/bin/true", slot=1) for _ in range(3)]
    other = bench.start("/bin/true", slot=2)
    async with asyncio.timeout(LIMIT_S):
        assert [await one_of(each) for each in behind] == ["returned"] * 3
        assert await one_of(other) == "code 0"
        assert await one_of(bench.start("/bin/true", slot=1)) == "returned"
        bench.processes.kill(1, soft=False)
        await long.done
        assert await one_of(bench.start("/bin/true", slot=1)) == "code 0"


async def test_an_order_in_line_can_be_dropped_or_killed(bench: Bench) -> None:
    first = bench.start("sleep", "0.01", slot=1)
    dropped, killed = (bench.start("touch", "ran", slot=1, cwd=str(bench.folder)) for _ in "ab")
    bench.processes.drop(1)
    bench.processes.drop(2)
    bench.processes.kill(3, soft=True)
    async with asyncio.timeout(LIMIT_S):
        assert await one_of(dropped) == "returned"
        assert await one_of(killed) == "returned"
        assert await one_of(first) == "code 0", "what has begun is not dropped"
    assert not (bench.folder / "ran").exists()


async def test_a_slot_goes_on_after_an_order_that_cannot_start(bench: Bench) -> None:
    first = bench.start("sleep", "0.005", slot=1)
    bad = bench.start("no-such-program", slot=1)
    last = bench.start("/bin/true", slot=1)
    async with asyncio.timeout(LIMIT_S):
        assert await one_of(first) == "code 0"
        assert await one_of(bad) in ("refused", "returned")
        assert await one_of(last) in ("code 0", "returned")


async def test_soft_kill_then_grace_then_the_whole_tree(bench: Bench) -> None:
    script = (
        "trap 'echo ignored' TERM; (setsid sleep 1000 & echo $! >&2); while :; do sleep 1; done"
    )
    heard = bench.start("/bin/sh", "-c", script)
    pid = await heard.started
    bench.processes.kill(1, soft=True)
    async with asyncio.timeout(LIMIT_S):
        facts = await heard.done
    assert facts.code == -signal.SIGKILL
    assert b"ignored" in facts.head, "it was asked first"
    assert facts.duration_us >= 200_000, "and got its grace"
    assert not alive(pid)
    assert facts.alive == 0


async def test_a_process_that_obeys_sigterm_gets_no_sigkill(bench: Bench) -> None:
    heard = bench.start(
        "/bin/sh", "-c", "trap 'exit 5' TERM; sleep 1000 & wait", grace_ns=20_000 * MS
    )
    await heard.started
    bench.processes.kill(1, soft=True)
    assert (await heard.done).code == 5


@pytest.mark.parametrize("how", ["in its group", "in a session of its own", "twice removed"])
async def test_a_daemon_left_behind_is_killed(bench: Bench, how: str) -> None:
    start = {
        "in its group": "sleep 1000 &",
        "in a session of its own": "setsid sleep 1000 &",
        "twice removed": "(setsid sh -c 'sleep 1000 & echo $! > pid; wait' &);",
    }[how]
    write = "echo $! > pid;" if how != "twice removed" else ""
    wait = "while [ ! -s pid ]; do sleep 0.01; done; sleep 0.1"
    facts = await bench.sh(f"{start} {write} {wait}")
    pid = int((bench.folder / "s1" / "pid").read_text())
    assert facts.code == 0
    assert facts.left >= 1
    await gone(pid)


async def test_a_daemon_with_a_clean_environment_is_killed_too(bench: Bench) -> None:
    older = bench.start("sleep", "1000")
    await older.started
    await bench.sh("env -i setsid sleep 1000 & echo $! > pid; sleep 0.1")
    bench.processes.kill(1, soft=False)
    await older.done
    await gone(int((bench.folder / "s2" / "pid").read_text()))


async def test_a_daemon_with_a_clean_environment_outlives_no_younger_attempt(bench: Bench) -> None:
    first = bench.start("/bin/sh", "-c", "env -i setsid sleep 1000 & echo $! > pid; sleep 0.2")
    await first.started
    younger = bench.start("sleep", "1000")
    await younger.started
    await first.done
    await gone(int((bench.folder / "s1" / "pid").read_text()))
    bench.processes.kill(2, soft=False)
    await younger.done


async def test_daemons_of_a_short_attempt_die_while_another_runs_on(bench: Bench) -> None:
    other = bench.start("sleep", "1000")
    await other.started
    await bench.sh("setsid sleep 1000 & echo $! > pid")
    await gone(int((bench.folder / "s2" / "pid").read_text()))
    assert not other.done.done()
    bench.processes.kill(1, soft=False)
    await other.done


async def test_wall_limit_counts_from_the_start(bench: Bench) -> None:
    facts = await bench.sh("exec sleep 1000", wall_ns=100 * MS)
    assert (facts.why, facts.code) == ("wall", -signal.SIGTERM)


async def test_silence_limit_counts_from_the_last_output(bench: Bench) -> None:
    facts = await bench.sh(
        "for i in 1 2 3; do echo $i; sleep 0.05; done; exec sleep 1000", silence_ns=200 * MS
    )
    assert facts.why == "silence"
    assert facts.head == b"1\n2\n3\n"


async def test_memory_of_the_whole_tree_is_limited(bench: Bench) -> None:
    eater = "import time; block = bytearray(200_000_000); time.sleep(1000)"
    facts = await bench.sh(f'"{sys.executable}" -c "{eater}"; true', memory_bytes=100_000_000)
    assert facts.why == "memory"
    assert facts.peak_rss > 100_000_000


async def test_cpu_and_peak_memory_are_those_of_the_whole_tree(bench: Bench) -> None:
    worker = "b = bytearray(60_000_000); sum(range(3_000_000))"
    facts = await bench.sh(f'"{sys.executable}" -c "{worker}"; true')
    assert facts.peak_rss > 60_000_000
    assert facts.cpu_us > 20_000


async def test_a_fork_bomb_is_killed_whole(bench: Bench) -> None:
    script = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); (sleep 1000 & sleep 1000) & done; wait"
    heard = bench.start("/bin/sh", "-c", script)
    await heard.started
    bench.processes.kill(1, soft=False)
    async with asyncio.timeout(LIMIT_S):
        facts = await heard.done
    assert facts.alive == 0


async def test_the_agents_secrets_stay_out_of_a_tasks_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DTF_PASSWORD", "hunter2")
    processes = Processes()
    processes.start()
    try:
        facts = await Bench(processes, tmp_path).sh("env")
        assert b"hunter2" not in facts.head + facts.tail
        assert b"DTF_ATTEMPT_ID=test.1" in facts.head
    finally:
        await processes.close()


async def test_when_the_supervisor_dies_its_processes_die_and_another_takes_over(
    bench: Bench,
) -> None:
    heard = bench.start("/bin/sh", "-c", "(setsid sleep 1000 & echo $! > pid); exec sleep 1000")
    pid = await heard.started
    first = bench.processes.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(LIMIT_S):
        stage, _ = await heard.refused
        assert stage == "supervisor"
        await gone(pid)
        await gone(int((bench.folder / "s1" / "pid").read_text()))
        while True:
            again = bench.start("/bin/true")
            ends: list[asyncio.Future[Any]] = [again.done, again.refused]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if again.done.done():
                break
            await asyncio.sleep(0.02)
    assert bench.processes.pid != first


AGENT = """
import asyncio, os, sys
from dtf.worker.processes import Listener, Order, Processes
class Told(Listener):
    def on_started(self, pid): print(pid, flush=True)
async def main():
    processes = Processes()
    processes.start()
    scratch = sys.argv[1] + "/s"
    os.mkdir(scratch, 0o700)
    processes.run(1, Order(
        slot=1,
        argv=["/bin/sh", "-c", "(setsid sleep 1000 & echo $! > pid); exec sleep 1000"], env={},
        marker="a.1", cwd=scratch, scratch=scratch, output_path=scratch + ".o", output_max=1,
        wall_ns=10**12, grace_ns=10**10), Told())
    await asyncio.sleep(1000)
asyncio.run(main())
"""


def test_kill_minus_nine_of_the_agent_kills_every_process_of_every_attempt(tmp_path: Path) -> None:
    agent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(AGENT), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert agent.stdout is not None
    with agent:
        pid = int(agent.stdout.readline())
        daemon = int((tmp_path / "s" / "pid").read_text())
        assert alive(pid)
        assert alive(daemon)
        agent.kill()
    asyncio.run(gone(pid))
    asyncio.run(gone(daemon))
