"""Attempts in warm processes: all that holds for a process of their own holds for them."""

from __future__ import annotations

import asyncio
import json
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
from dtf.worker.runners.python import CHILD
from dtf.worker.supervising.table import below, process_table
from dtf.worker.warm.chain import Link, first_link

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks and reads /proc")
LIMIT_S = 30.0
MS = 1_000_000
PROGRAM = """
import ctypes, os, signal, subprocess, sys, threading, time
def where(): print(os.getpid(), os.getsid(0), os.getcwd(), os.environ["DTF_ATTEMPT_ID"])
def loaded(): print("colorsys" in sys.modules, os.environ.get("MINE"))
def segfault(): ctypes.string_at(0)
def sleep(): print("asleep", flush=True); time.sleep(1000)
def stubborn():
    signal.signal(signal.SIGTERM, lambda *_: print("ignored", flush=True))
    print("asleep", flush=True)
    while True: time.sleep(1000)
def lines():
    for i in range(3):
        print(i, flush=True)
        time.sleep(0.05)
    time.sleep(1000)
def eat(): b = bytearray(300_000_000); time.sleep(1000)
def work(): b = bytearray(60_000_000); sum(range(3_000_000))
def flood(): print("x" * 4_999_999)
def daemon(): print(subprocess.Popen(["setsid", "sleep", "1000"]).pid); time.sleep(0.1)
def forked():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: time.sleep(1000)
        os._exit(0)
    os.wait()
def server():
    child = subprocess.Popen(["sleep", "1000"])
    open("server", "w").write(str(child.pid))
def nothing(): pass
def leave(): os._exit(4)
def big(): print(len(os.environ["DTF_PARAMS"]))
"""


class Heard(Listener):
    """What was told about one attempt."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.done: asyncio.Future[Facts] = loop.create_future()
        self.refused: asyncio.Future[tuple[str, str]] = loop.create_future()
        self.returned: asyncio.Future[None] = loop.create_future()
        self.started: asyncio.Future[int] = loop.create_future()
        self.live = bytearray()

    def on_started(self, pid: int) -> None:
        self.started.set_result(pid)

    def on_output(self, data: bytes, dropped: int) -> None:
        self.live += data

    def on_done(self, facts: Facts) -> None:
        self.done.set_result(facts)

    def on_refused(self, stage: str, text: str) -> None:
        self.refused.set_result((stage, text))

    def on_returned(self) -> None:
        self.returned.set_result(None)


class Bench:
    """A supervisor, and a folder with the tasks."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self.processes = processes
        self.folder = folder
        self.keys = 0
        (folder / "tasks.py").write_text(PROGRAM)

    def link(self, *modules: str, python: str = "", **env: str) -> Link:
        """A parent that has imported these, from our folder first."""
        path = [str(self.folder)] if modules else []
        prepare = {"kind": "import", "runners": ["python"], "modules": [*modules], "path": path}
        return first_link(python, env, prepare)

    def start(
        self, call: str, *modules: str, host: str = "", start: str = "auto", **given: Any
    ) -> Heard:
        self.keys += 1
        scratch = str(self.folder / f"s{self.keys}")
        os.mkdir(scratch, 0o700)
        link = given.pop("link", None) or self.link(*modules)
        warm = {
            "chain": [link],
            "host": host,
            "start": start,
            "work": {"kind": "python", "target": f"tasks:{call}"},
        }
        fields: dict[str, Any] = {
            "slot": 1 if host else self.keys,
            "argv": [sys.executable, "-P", CHILD, f"tasks:{call}"],
            "env": {"DTF_BUNDLE": str(self.folder), "DTF_PARAMS": "{}"},
            "marker": f"test.{self.keys}",
            "cwd": scratch,
            "scratch": scratch,
            "output_path": scratch + ".output",
            "output_max": 1 << 20,
            "wall_ns": 60_000 * MS,
            "grace_ns": 200 * MS,
            "warm": warm,
            **given,
        }
        heard = Heard()
        self.processes.run(self.keys, Order(**fields), heard)
        return heard

    async def run(self, call: str, *modules: str, **given: Any) -> Facts:
        async with asyncio.timeout(LIMIT_S):
            return await self.start(call, *modules, **given).done

    async def pid_of(self, call: str, **given: Any) -> int:
        """The process in which a callable that prints its pid first has run."""
        return int((await self.run(call, **given)).head.split()[0])

    def warm_processes(self) -> list[int]:
        """The supervisor's children: with no attempt running, warm processes all."""
        return [
            p.pid
            for p in process_table().values()
            if p.parent == self.processes.pid and not p.zombie
        ]

    async def parents(self, count: int) -> list[int]:
        """The warm processes, once they are so many: those to spare end when nobody wants them."""
        async with asyncio.timeout(LIMIT_S):
            while len(found := self.warm_processes()) != count:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        return found


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    processes = Processes()
    processes.start()
    yield Bench(processes, tmp_path)
    pid = processes.pid
    assert pid is not None
    below_it = below(process_table(), {pid})
    await processes.close()
    table = process_table()
    left = {p for p in below_it if p in table and not table[p].zombie}
    assert not left, "closing it ends all it has started"


def alive(pid: int) -> bool:
    table = process_table()
    return pid in table and not table[pid].zombie


async def gone(pid: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while alive(pid):  # noqa: ASYNC110 (the process table tells nobody when it changes)
            await asyncio.sleep(0.005)


async def until_live(heard: Heard, text: bytes) -> None:
    async with asyncio.timeout(LIMIT_S):
        while text not in heard.live:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_attempts_are_forked_from_one_parent_each_on_its_own(bench: Bench) -> None:
    facts = [await bench.run("where") for _ in range(3)]
    assert [f.start for f in facts] == ["fork"] * 3
    assert [(f.code, f.why, f.note, f.scratch_left) for f in facts] == [(0, "", "", False)] * 3
    printed = [f.head.decode().split() for f in facts]
    assert len({pid for pid, *_ in printed}) == 3
    assert all(pid == session for pid, session, *_ in printed)
    assert [where[2:] for where in printed] == [
        [str(bench.folder / f"s{i}"), f"test.{i}"] for i in (1, 2, 3)
    ]
    await bench.parents(1)
    assert all(f.cpu_us > 0 and f.peak_rss > 1_000_000 for f in facts)


async def test_another_preload_or_environment_has_another_parent(bench: Bench) -> None:
    assert (await bench.run("loaded")).head == b"False None\n"
    assert (await bench.run("loaded", "colorsys")).head == b"True None\n"
    link = bench.link("colorsys", MINE="at start")
    env = {"DTF_BUNDLE": str(bench.folder), "MINE": "own"}
    assert (await bench.run("loaded", link=link, env=env)).head == b"True own\n"
    await bench.parents(3)


async def test_no_more_than_four_parents_are_kept(bench: Bench) -> None:
    for number in range(6):
        facts = await bench.run("nothing", link=bench.link("colorsys", NUMBER=str(number)))
        assert facts.start == "fork"
    await bench.parents(4)


async def test_a_process_forked_ahead_is_as_good_as_any_and_ends_unless_wanted(
    bench: Bench,
) -> None:
    facts = [await bench.run("where")]
    both = [bench.start("where") for _ in range(2)]
    async with asyncio.timeout(LIMIT_S):
        facts += [await heard.done for heard in both]
    assert len(bench.warm_processes()) > 1
    facts.append(await bench.run("where"))
    assert len({f.head.split()[0] for f in facts}) == 4
    assert {(f.code, f.start) for f in facts} == {(0, "fork")}
    await bench.parents(1)


async def test_many_in_one_slot_run_one_after_the_other(bench: Bench) -> None:
    heard = [bench.start("nothing", slot=1) for _ in range(20)]
    async with asyncio.timeout(LIMIT_S):
        ends: list[Any] = []
        for each in heard:
            done, _ = await asyncio.wait(
                [each.done, each.returned], return_when=asyncio.FIRST_COMPLETED
            )
            ends += done
    assert heard[0].done.done()
    assert {end.result().code for end in ends if end.result() is not None} == {0}


# -- ends -----------------------------------------------------------------------------------------
async def test_a_crash_is_told_and_the_parent_serves_on(bench: Bench) -> None:
    assert (await bench.run("segfault")).code == -signal.SIGSEGV
    (parent,) = await bench.parents(1)
    assert (await bench.run("leave")).code == 4
    assert (await bench.run("nothing")).code == 0
    assert await bench.parents(1) == [parent]


async def test_a_soft_kill_is_obeyed_and_a_stubborn_one_is_killed_after_its_grace(
    bench: Bench,
) -> None:
    heard = bench.start("sleep", grace_ns=20_000 * MS)
    await until_live(heard, b"asleep")
    bench.processes.kill(1, soft=True)
    async with asyncio.timeout(LIMIT_S):
        facts = await heard.done
    assert (facts.code, facts.why) == (-signal.SIGTERM, "killed")
    heard = bench.start("stubborn")
    await until_live(heard, b"asleep")
    bench.processes.kill(2, soft=True)
    async with asyncio.timeout(LIMIT_S):
        facts = await heard.done
    assert (facts.code, facts.why) == (-signal.SIGKILL, "killed")
    assert b"ignored" in facts.head


async def test_wall_silence_and_memory_are_limited(bench: Bench) -> None:
    facts = await bench.run("sleep", wall_ns=150 * MS)
    assert (facts.why, facts.code) == ("wall", -signal.SIGTERM)
    facts = await bench.run("lines", silence_ns=300 * MS)
    assert (facts.why, facts.head) == ("silence", b"0\n1\n2\n")
    facts = await bench.run("eat", memory_bytes=150_000_000)
    assert facts.why == "memory"


async def test_usage_is_that_of_the_attempt_alone(bench: Bench) -> None:
    facts = await bench.run("work")
    assert facts.peak_rss > 60_000_000
    assert facts.cpu_us > 10_000
    facts = await bench.run("nothing")
    assert facts.peak_rss < 60_000_000
    assert facts.cpu_us < 1_000_000


async def test_long_output_is_stored(bench: Bench) -> None:
    facts = await bench.run("flood", output_max=100_000)
    assert facts.output_bytes == 5_000_000
    assert facts.stored == (bench.folder / "s1.output").stat().st_size == 100_000


async def test_what_a_forked_attempt_leaves_behind_is_killed(bench: Bench) -> None:
    facts = await bench.run("daemon")
    assert facts.left == 1
    await gone(int(facts.head))
    assert (await bench.run("forked")).code == 0
    await bench.parents(1)


async def test_parameters_of_a_megabyte_reach_the_process(bench: Bench) -> None:
    env = {"DTF_BUNDLE": str(bench.folder), "DTF_PARAMS": json.dumps({}) + " " * 1_000_000}
    assert (await bench.run("big", env=env)).head == b"1000002\n"


# -- parents that fail ----------------------------------------------------------------------------
async def test_a_parent_that_was_killed_is_replaced(bench: Bench) -> None:
    await bench.run("nothing")
    (parent,) = await bench.parents(1)
    os.kill(parent, signal.SIGKILL)
    facts = await bench.run("nothing")
    assert (facts.code, facts.start, facts.note) == (0, "fork", "")
    assert parent not in bench.warm_processes()


async def test_an_attempt_whose_parent_dies_at_its_start_is_started_anew_and_says_so(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    (bench.folder / "deadly.py").write_text(
        "import os, sys; print('goodbye', file=sys.stderr, flush=True); os._exit(1)"
    )
    heard = [bench.start("nothing", "deadly") for _ in range(3)]
    async with asyncio.timeout(LIMIT_S):
        for each in heard:
            facts = await each.done
            assert (facts.code, facts.start) == (0, "spawn")
            assert "goodbye" in facts.note
    assert len([r for r in caplog.records if "goodbye" in r.getMessage()]) == 1, "once in the log"


async def test_a_parent_that_stops_answering_loses_no_attempt(bench: Bench) -> None:
    await bench.run("nothing")
    (parent,) = await bench.parents(1)
    os.kill(parent, signal.SIGSTOP)
    facts = await bench.run("nothing")
    assert (facts.code, facts.start) == (0, "spawn")
    assert "did not answer" in facts.note
    await gone(parent)


async def test_an_interpreter_that_is_not_there_is_told(bench: Bench) -> None:
    facts = await bench.run("nothing", link=bench.link(python="/no/such/python"))
    assert (facts.code, facts.start) == (0, "spawn"), "its own argv is another interpreter"
    assert "/no/such/python" in facts.note
    async with asyncio.timeout(LIMIT_S):
        stage, text = await bench.start(
            "nothing", link=bench.link(python="/no/such/python"), argv=[]
        ).refused
    assert stage == "setup"
    assert "/no/such/python" in text


async def test_a_module_that_cannot_be_preloaded_stops_nobody_and_is_told(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    heard = [bench.start("nothing", "no_such_module") for _ in range(2)]
    async with asyncio.timeout(LIMIT_S):
        facts = [await each.done for each in heard]
    assert [(f.code, f.start) for f in facts] == [(0, "fork")] * 2
    assert all("No module named 'no_such_module'" in f.note for f in facts)
    assert len([r for r in caplog.records if "no_such_module" in r.getMessage()]) == 1


async def test_a_parent_with_threads_runs_the_attempt_itself(bench: Bench) -> None:
    (bench.folder / "threaded.py").write_text(
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
    )
    facts = [await bench.run("where", "threaded") for _ in range(2)]
    assert [(f.code, f.start) for f in facts] == [(0, "became")] * 2
    assert facts[0].note == "2 threads run in it"
    assert len({f.head.split()[0] for f in facts}) == 2
    both = [bench.start("where", "threaded") for _ in range(2)]
    async with asyncio.timeout(LIMIT_S):
        assert {(await heard.done).code for heard in both} == {0}


async def test_start_is_a_choice(bench: Bench) -> None:
    facts = await bench.run("where", start="spawn")
    assert (facts.code, facts.start, facts.note) == (0, "spawn", "")
    assert bench.warm_processes() == []
    facts = await bench.run("where", start="spawn", argv=[])
    assert (facts.code, facts.start, facts.note) == (0, "spawn", "")
    assert (await bench.run("where", start="fork")).start == "fork"
    async with asyncio.timeout(LIMIT_S):
        link = bench.link(python="/no/such/python")
        stage, text = await bench.start("where", start="fork", link=link).refused
    assert stage == "setup"
    assert "start 'fork' was asked for" in text


async def test_a_folder_that_is_not_there_is_the_setups_fault(bench: Bench) -> None:
    async with asyncio.timeout(LIMIT_S):
        stage, _ = await bench.start("nothing", cwd=str(bench.folder / "nowhere")).refused
    assert stage == "setup"


async def test_an_attempt_on_its_way_can_be_killed(bench: Bench) -> None:
    (bench.folder / "slow.py").write_text("import time; time.sleep(1)")
    heard = bench.start("nothing", "slow", slot=1)
    behind = bench.start("where", slot=1)
    bench.processes.kill(1, soft=True)
    async with asyncio.timeout(LIMIT_S):
        facts = await heard.done
        assert (facts.why, facts.code) == ("killed", -signal.SIGKILL)
        assert (await behind.done).code == 0


# -- hosts ----------------------------------------------------------------------------------------
async def test_orders_with_one_host_share_a_process(bench: Bench) -> None:
    first = await bench.run("where", host="h")
    second = await bench.run("where", host="h")
    assert (first.start, second.start) == ("fork", "host")
    one, two = (f.head.decode().split() for f in (first, second))
    assert one[0] == two[0]
    assert [one[3], two[3]] == ["test.1", "test.2"], "each has its own variables"
    assert second.output_bytes == len(second.head)
    again = await bench.run("where", host="other")
    assert again.head.split()[0] != one[0].encode()
    await gone(int(one[0]))


async def test_a_command_in_the_slot_of_a_host_waits_for_its_end(bench: Bench) -> None:
    pid = await bench.pid_of("where", host="h")
    script = f"kill -0 {pid} 2>/dev/null && echo alive; true"
    facts = await bench.run("", slot=1, argv=["/bin/sh", "-c", script], warm=None)
    assert (facts.code, facts.head, facts.start) == (0, b"", "")


async def test_what_a_host_has_started_lives_until_it_ends(bench: Bench) -> None:
    await bench.run("server", host="h", cwd=str(bench.folder))
    server = int((bench.folder / "server").read_text())
    assert (await bench.run("nothing", host="h")).left == 0
    assert alive(server)
    await bench.run("", slot=1, argv=["/bin/true"], warm=None)
    await gone(server)


async def test_the_end_of_a_host_is_the_crash_of_its_attempt(bench: Bench) -> None:
    pid = await bench.pid_of("where", host="h")
    assert (await bench.run("segfault", host="h")).code == -signal.SIGSEGV
    assert await bench.pid_of("where", host="h") != pid


async def test_a_killed_attempt_takes_its_host_with_it(bench: Bench) -> None:
    pid = await bench.pid_of("where", host="h")
    heard = bench.start("sleep", host="h")
    await until_live(heard, b"asleep")
    bench.processes.kill(2, soft=False)
    async with asyncio.timeout(LIMIT_S):
        assert (await heard.done).why == "killed"
    assert not alive(pid)
    assert await bench.pid_of("where", host="h") != pid


async def test_a_host_that_was_killed_while_idle_is_replaced(bench: Bench) -> None:
    pid = await bench.pid_of("where", host="h")
    os.kill(pid, signal.SIGKILL)
    await gone(pid)
    assert await bench.pid_of("where", host="h") != pid


async def test_a_host_may_be_started_anew(bench: Bench) -> None:
    first = await bench.run("where", host="h", start="spawn", argv=[])
    second = await bench.run("where", host="h", start="spawn", argv=[])
    assert (first.start, second.start) == ("spawn", "host")
    assert first.head.split()[0] == second.head.split()[0]


# -- nobody is left -------------------------------------------------------------------------------
async def test_when_the_supervisor_dies_its_warm_processes_die(bench: Bench) -> None:
    host = await bench.pid_of("where", host="h")
    heard = bench.start("sleep")
    await until_live(heard, b"asleep")
    warm = bench.warm_processes()
    assert len(warm) >= 3, "a parent, a host and an attempt; perhaps some to spare"
    assert bench.processes.pid is not None
    os.kill(bench.processes.pid, signal.SIGKILL)
    async with asyncio.timeout(LIMIT_S):
        stage, _ = await heard.refused
        assert stage == "supervisor"
        for pid in [host, *warm]:
            await gone(pid)


AGENT = """
import asyncio, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_worker_warm import Bench
from dtf.worker.processes import Processes
async def main():
    processes = Processes()
    processes.start()
    bench = Bench(processes, Path(sys.argv[2]))
    await bench.run("where", host="h")
    heard = bench.start("sleep")
    await heard.started
    print(*bench.warm_processes(), flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""


def test_kill_minus_nine_of_the_agent_kills_every_warm_process(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    agent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(AGENT), here, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert agent.stdout is not None
    with agent:
        pids = [int(word) for word in agent.stdout.readline().split()]
        assert len(pids) >= 3
        agent.kill()
    for pid in pids:
        asyncio.run(gone(pid))
