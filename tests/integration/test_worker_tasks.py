"""Tasks of every kind through a whole agent: what well-behaved, broken and hostile ones end as."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from dtf.core import events as e
from dtf.core.bundle import pack
from dtf.core.model import Cause, Requirement, TaskSpec, Verdict
from worker_pool import WorkerPool, worker_pool

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX processes")


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[WorkerPool]:
    async with worker_pool(
        tmp_path / "data",
        output_bytes_max=1_000_000,
        artifact_bytes_max=1_000_000,
        scratch_bytes_max=20_000_000,
    ) as pool:
        yield pool
    assert list((tmp_path / "data" / "attempts").iterdir()) == [], "nothing is left on disk"


def sh(script: str, **given: Any) -> TaskSpec:
    return TaskSpec(command=["/bin/sh", "-c", script], **given)


def packed(folder: Path, files: dict[str, str]) -> bytes:
    """A bundle with these files (`a__b_py` is a/b.py)."""
    root = folder / "source"
    root.mkdir(exist_ok=True)
    for name, text in files.items():
        path = root / (name.replace("__", "/").replace("_py", ".py"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return pack(root, 1 << 20, cache_dir=folder / "packed").path.read_bytes()


async def bundle(pool: WorkerPool, **files: str) -> str:
    """The digest of a stored bundle."""
    return await pool.blobs.put(packed(pool.options.data_dir, files))


def numbers(pool: WorkerPool, token: str) -> list[int]:
    """The numbers of an attempt's events, in log order."""
    kinds = (e.AttemptStarted, e.CasesReported, e.ArtifactStored, e.AttemptFinished)
    events = [event for kind in kinds for event in pool.told(kind, token)]
    return sorted(event.n for event in events)


# -- commands -------------------------------------------------------------------------------------
async def test_parameters_reach_the_command_and_the_environment(pool: WorkerPool) -> None:
    spec = TaskSpec(
        command=["/bin/sh", "-c", 'echo "{size} {name} $MODE $DTF_TASK $DTF_ATTEMPT $DTF_PARAMS"'],
        env={"MODE": "mode-{name}"},
    )
    end = await pool.run(spec, task="t-7", params={"size": 3, "name": "a b"})
    assert end.output is not None
    assert end.output.tail == "a b".join(["3 ", " mode-", ' t-7 1 {"size":3,"name":"', '"}\n'])


async def test_a_parameter_that_is_not_there_is_an_error_of_the_task(pool: WorkerPool) -> None:
    end = await pool.run(TaskSpec(command=["echo", "{nope}"]))
    assert (end.verdict, end.cause) == (Verdict.ERROR, Cause.CONFIG)
    assert "nope" in end.message


async def test_a_missing_program_and_a_missing_file_are_named(pool: WorkerPool) -> None:
    end = await pool.run(TaskSpec(command=["no-such-program", "x"]))
    assert (end.verdict, end.cause) == (Verdict.ERROR, Cause.CONFIG)
    assert "no-such-program" in end.message
    end = await pool.run(TaskSpec(runner="python", target="tests/missing.py"), task="b-0")
    assert (end.verdict, end.cause) == (Verdict.ERROR, Cause.CONFIG)
    assert "tests/missing.py" in end.message
    end = await pool.run(TaskSpec(runner="python", target="no_module:f"), task="c-0")
    assert (end.verdict, end.cause) == (Verdict.ERROR, Cause.CONFIG)
    assert "no_module" in end.message


async def test_unicode_and_binary_output(pool: WorkerPool) -> None:
    end = await pool.run(sh("printf 'gr\\303\\274n \\342\\202\\254\\n'"))
    assert end.output is not None
    assert (end.output.tail, end.output.digest) == ("grün €\n", None)
    end = await pool.run(sh("printf 'a\\377\\000b'"), task="b-0")
    assert end.output is not None
    assert end.output.tail == "a\ufffd\0b"
    assert end.output.digest is not None, "what is no text is stored byte for byte"
    assert await pool.blobs.get(end.output.digest) == b"a\xff\0b"


async def test_the_tail_of_long_text_is_cut_between_characters(pool: WorkerPool) -> None:
    end = await pool.run(TaskSpec(command=[sys.executable, "-c", "print('x' + 'ü' * 5000)"]))
    assert end.output is not None
    assert end.output.bytes == 10_002
    assert set(end.output.tail.strip()) == {"ü"}
    assert end.output.digest is not None
    assert (await pool.blobs.get(end.output.digest)).decode() == "x" + "ü" * 5000 + "\n"


async def test_a_task_that_prints_a_hundred_megabytes(pool: WorkerPool) -> None:
    end = await pool.run(sh("head -c 100000000 /dev/zero | tr '\\0' x; echo end"))
    assert end.verdict is Verdict.PASSED
    assert end.output is not None
    assert end.output.bytes == 100_000_004
    assert end.output.truncated
    assert end.output.tail.endswith("xend\n")
    assert end.output.digest is not None
    assert len(await pool.blobs.get(end.output.digest)) == 1_000_000


async def test_live_output_comes_in_numbered_chunks_and_says_when_it_is_over(
    pool: WorkerPool,
) -> None:
    token = pool.assign(sh("for i in 1 2 3; do echo line$i; sleep 0.1; done"))
    await pool.until(lambda: pool.live_output() and not pool.told(e.AttemptFinished, token))
    await pool.finished(token)
    chunks = pool.live_output()
    assert [chunk.n for chunk in chunks] == list(range(len(chunks)))
    assert "".join(chunk.text for chunk in chunks) == "line1\nline2\nline3\n"
    assert chunks[-1].last
    assert pool.told(e.AttemptStarted, token)


async def test_a_task_that_writes_too_much_is_ended_and_leaves_nothing(pool: WorkerPool) -> None:
    script = "head -c 60000000 /dev/zero > big; exec sleep 1000"
    end = await pool.run(sh(script, artifacts=["big"]))
    assert (end.verdict, end.cause) == (Verdict.FAILED, Cause.TEST)
    assert "20000000 bytes" in end.message
    assert "artifact big left out" in end.message
    assert not pool.told(e.ArtifactStored)


async def test_a_task_that_ignores_sigterm_is_killed_after_its_grace(pool: WorkerPool) -> None:
    token = pool.assign(sh("trap '' TERM; while :; do sleep 0.05; done", grace_ms=100))
    await pool.until(lambda: pool.told(e.AttemptStarted, token))
    pool.revoke(token, "cancel")
    end = await pool.finished(token)
    assert (end.verdict, end.cause, end.exit_code) == (Verdict.CANCELLED, Cause.CANCELLED, -9)


async def test_a_task_that_forks_daemons_passes_and_they_are_killed(pool: WorkerPool) -> None:
    end = await pool.run(sh("setsid sleep 1000 & sleep 0.1"))
    assert end.verdict is Verdict.PASSED
    assert "1 processes it left behind were killed" in end.message


async def test_a_task_that_eats_memory_is_stopped_at_what_it_asked_for(pool: WorkerPool) -> None:
    program = "b = []\nwhile True: b.append(bytearray(10_000_000))"
    spec = TaskSpec(
        command=[sys.executable, "-c", program], require=Requirement(memory_bytes=150_000_000)
    )
    end = await pool.run(spec)
    assert (end.verdict, end.cause) == (Verdict.FAILED, Cause.MEMORY)
    assert "150000000" in end.message


async def test_wall_and_silence_limits(pool: WorkerPool) -> None:
    end = await pool.run(sh("exec sleep 1000", wall_ms=100, grace_ms=0))
    assert (end.verdict, end.cause) == (Verdict.TIMED_OUT, Cause.WALL_LIMIT)
    end = await pool.run(sh("exec sleep 1000", silence_ms=100), task="b-0")
    assert (end.verdict, end.cause) == (Verdict.TIMED_OUT, Cause.SILENCE_LIMIT)


async def test_a_task_that_floods_its_report_with_garbage(pool: WorkerPool) -> None:
    script = 'head -c 3000000 /dev/zero >> "$DTF_REPORT"; printf "\\n{}\\n[1]\\n" >> "$DTF_REPORT"'
    end = await pool.run(sh(script))
    assert end.verdict is Verdict.PASSED
    assert "report lines were not understood" in end.message


async def test_a_report_that_is_no_file_is_ignored(pool: WorkerPool) -> None:
    end = await pool.run(sh('ln -s /etc/passwd "$DTF_REPORT"'))
    assert end.verdict is Verdict.PASSED


# -- artifacts ------------------------------------------------------------------------------------
async def test_artifacts_are_kept_also_when_the_task_fails(pool: WorkerPool) -> None:
    script = "mkdir -p out; echo 1 > out/a.txt; echo 2 > out/b.log; echo 3 > c.txt; exit 1"
    end = await pool.run(sh(script, artifacts=["out/*", "**/*.txt", "none*"]))
    assert end.verdict is Verdict.FAILED
    assert "'none*' matched nothing" in end.message
    stored = pool.told(e.ArtifactStored)
    assert [a.path for a in stored] == ["c.txt", "out/a.txt", "out/b.log"]
    assert numbers(pool, end.token) == list(range(end.n + 1))
    assert await pool.blobs.get(stored[0].digest) == b"3\n"


async def test_artifacts_never_come_from_outside_the_scratch_directory(pool: WorkerPool) -> None:
    script = "ln -s /etc/passwd leak; ln -s / root; echo x > ok"
    end = await pool.run(sh(script, artifacts=["*", "root/etc/hosts", "../*", "/etc/passwd"]))
    assert end.verdict is Verdict.PASSED
    assert [a.path for a in pool.told(e.ArtifactStored)] == ["ok"]
    assert "only paths below" in end.message


async def test_an_upload_that_fails_never_changes_the_verdict(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(path: Path) -> str:
        raise OSError("disk of the store is full")

    monkeypatch.setattr(pool.blobs, "put_file", refuse)
    end = await pool.run(sh("echo x > f; head -c 10000 /dev/zero", artifacts=["f"]))
    assert end.verdict is Verdict.PASSED
    assert "artifact f could not be stored: disk of the store is full" in end.message
    assert "the output could not be stored" in end.message


async def test_a_store_that_does_not_answer_is_asked_again(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dtf.worker.artifacts.RETRY_S", 0.01)
    pool.blobs.offline = True
    token = pool.assign(sh("echo x > f", artifacts=["f"]))
    await pool.until(lambda: pool.agent._shop._tasks)
    await asyncio.sleep(0.05)
    assert not pool.told(e.AttemptFinished, token)
    pool.blobs.offline = False
    assert (await pool.finished(token)).verdict is Verdict.PASSED
    assert len(pool.told(e.ArtifactStored)) == 1


# -- python in a process --------------------------------------------------------------------------
PROGRAM = """
import ctypes, os, sys, time
import dtf

def add(a, b=1): return {"sum": a + b}
def boom(): raise ValueError("no good")
def check(): assert 1 == 2, "one is not two"
def segfault(): ctypes.string_at(0)
def leave(): os._exit(0)
def abort(): os.abort()
def quit(code): sys.exit(code)
def huge(): return "x" * 100_000
def odd(): return object()
async def later(): return "later"
def measured():
    dtf.measure("latency", 1.5, "ms", samples=[1, 2])
    dtf.case("one", "passed", duration_s=0.5)
    dtf.case("two", "failed", message="bad")
def skipped(): dtf.skip("needs a newer driver")
def fell_back(): dtf.placed("cuda", "cpu", "no driver")
def slowly():
    for i in range(3):
        dtf.case(str(i), "passed")
        time.sleep(0.2)
def chatter():
    for i in range(20):
        print("out", i)
        print("err", i, file=sys.stderr)
not_callable = 3
"""


def py(name: str, digest: str, **given: Any) -> TaskSpec:
    return TaskSpec(runner="python", target=f"program:{name}", bundle=digest, **given)


@pytest.fixture
async def program(pool: WorkerPool) -> str:
    return await bundle(pool, program_py=PROGRAM)


@pytest.mark.parametrize(
    ("name", "params", "verdict", "cause", "words", "value"),
    [
        ("add", {"a": 2}, "passed", "done", "", {"sum": 3}),
        ("later", None, "passed", "done", "", "later"),
        ("boom", None, "failed", "test", "ValueError: no good", None),
        ("check", None, "failed", "test", "one is not two", None),
        ("add", {"c": 2}, "failed", "test", "unexpected keyword argument", None),
        ("segfault", None, "failed", "crash", "SIGSEGV", None),
        ("abort", None, "failed", "crash", "SIGABRT", None),
        ("leave", None, "failed", "crash", "status 0 before the test did", None),
        ("quit", {"code": 0}, "passed", "done", "", None),
        ("quit", {"code": 3}, "failed", "test", "exit status 3", None),
        ("quit", {"code": "so long"}, "failed", "test", "exit status 1", None),
        ("huge", None, "passed", "done", "left out", None),
        ("odd", None, "passed", "done", "left out", None),
        ("skipped", None, "skipped", "done", "newer driver", None),
        ("fell_back", None, "fallback", "fallback", "asked for cuda, ran on cpu", None),
        ("not_callable", None, "error", "config", "int, not a callable", None),
        ("nothing", None, "error", "config", "no 'nothing'", None),
    ],
)
async def test_what_a_python_task_ends_as(
    pool: WorkerPool,
    program: str,
    name: str,
    params: Any,
    verdict: str,
    cause: str,
    words: str,
    value: Any,
) -> None:
    end = await pool.run(py(name, program), params=params)
    assert (end.verdict, end.cause) == (Verdict(verdict), Cause(cause)), end
    assert words in end.message
    assert (msgspec.json.decode(end.value) if len(end.value) else None) == value


async def test_measurements_and_cases_reach_the_log(pool: WorkerPool, program: str) -> None:
    end = await pool.run(py("measured", program))
    assert end.verdict is Verdict.FAILED
    assert numbers(pool, end.token) == list(range(end.n + 1))
    (reported,) = pool.told(e.CasesReported)
    assert [case.id for case in reported.cases] == ["one", "two"]
    assert reported.cases[0].duration_us == 500_000
    assert reported.measurements[0].samples == [1.0, 2.0]
    assert "two: bad" in end.message


async def test_cases_are_reported_while_the_task_runs(pool: WorkerPool, program: str) -> None:
    token = pool.assign(py("slowly", program))
    await pool.until(lambda: pool.told(e.CasesReported, token))
    assert not pool.told(e.AttemptFinished, token)
    end = await pool.finished(token)
    assert sum(len(event.cases) for event in pool.told(e.CasesReported, token)) == 3
    assert end.n == len(pool.told(e.CasesReported, token)) + 1


async def test_prints_of_python_keep_their_order(pool: WorkerPool, program: str) -> None:
    end = await pool.run(py("chatter", program))
    assert end.output is not None
    lines = "".join(f"out {i}\nerr {i}\n" for i in range(20))
    assert end.output.tail == lines


async def test_a_missing_dependency_is_named_with_the_remedy(pool: WorkerPool) -> None:
    digest = await bundle(pool, program_py="import torch_of_tomorrow\ndef f(): pass")
    end = await pool.run(py("f", digest))
    assert (end.verdict, end.cause) == (Verdict.ERROR, Cause.CONFIG)
    assert "torch_of_tomorrow" in end.message
    assert "install it" in end.message


async def test_a_script_runs_as_main_in_its_bundle(pool: WorkerPool) -> None:
    script = "import sys, near\nprint(__name__, sys.argv[0][-11:], near.X)"
    digest = await bundle(pool, tests__run_py=script, tests__near_py="X = 5")
    end = await pool.run(TaskSpec(runner="python", target="tests/run.py", bundle=digest))
    assert end.verdict is Verdict.PASSED, end
    assert end.output is not None
    assert end.output.tail == "__main__ ests/run.py 5\n"


async def test_a_command_with_a_bundle_starts_in_it(pool: WorkerPool) -> None:
    digest = await bundle(pool, data_py="here")
    end = await pool.run(sh('cat data.py; echo " $DTF_SCRATCH"; cd "$DTF_SCRATCH"', bundle=digest))
    assert end.output is not None
    assert end.output.tail.startswith("here /")


# -- bundles --------------------------------------------------------------------------------------
async def test_a_bundle_is_fetched_once_for_many(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = await bundle(pool, data_py="x")
    fetched = []
    real = pool.blobs.get_file

    async def counted(wanted: str, path: Path) -> None:
        fetched.append(wanted)
        await real(wanted, path)

    monkeypatch.setattr(pool.blobs, "get_file", counted)
    tokens = [pool.assign(sh("cat data.py", bundle=digest), task=f"g-{i}") for i in range(6)]
    for token in tokens:
        assert (await pool.finished(token)).verdict is Verdict.PASSED
    assert fetched == [digest]


async def test_a_bundle_that_is_not_stored_or_no_bundle_is_an_error_of_the_setup(
    pool: WorkerPool,
) -> None:
    missing = "sha256:" + "0" * 64
    end = await pool.run(sh("true", bundle=missing))
    assert (end.verdict, end.cause) == (Verdict.ERROR, Cause.SETUP)
    assert missing in end.message
    junk = await pool.blobs.put(b"this is no archive")
    end = await pool.run(sh("true", bundle=junk), task="b-0")
    assert (end.verdict, end.cause) == (Verdict.ERROR, Cause.SETUP)
    assert junk in end.message


async def test_a_bundle_with_a_path_out_of_its_folder_is_refused(pool: WorkerPool) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        info = tarfile.TarInfo("../../escaped")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    digest = await pool.blobs.put(raw.getvalue())
    end = await pool.run(sh("true", bundle=digest))
    assert (end.verdict, end.cause) == (Verdict.ERROR, Cause.SETUP)
    assert not list(pool.options.data_dir.rglob("escaped"))


# -- in the agent's own interpreter ---------------------------------------------------------------
def inline(target: str, **given: Any) -> TaskSpec:
    return TaskSpec(runner="python", target=target, isolation="none", **given)


async def test_an_in_process_task_returns_its_value(pool: WorkerPool) -> None:
    end = await pool.run(inline("json:loads"), params={"s": "[1,2]"})
    assert end.verdict is Verdict.PASSED
    assert json.loads(bytes(end.value)) == [1, 2]


async def test_in_process_tasks_fail_print_and_report_like_others(pool: WorkerPool) -> None:
    digest = await bundle(pool, program_py=PROGRAM)
    end = await pool.run(inline("program:boom", bundle=digest), task="a-0")
    assert (end.verdict, end.cause) == (Verdict.FAILED, Cause.TEST)
    assert end.message.startswith("ValueError: no good")
    assert "program.py" in end.message
    end = await pool.run(inline("program:measured", bundle=digest), task="b-0")
    assert end.verdict is Verdict.FAILED
    assert numbers(pool, end.token) == list(range(end.n + 1))
    assert [case.id for case in pool.told(e.CasesReported)[0].cases] == ["one", "two"]
    end = await pool.run(inline("program:chatter", bundle=digest), task="c-0")
    assert end.output is not None
    assert end.output.tail.startswith("out 0\nerr 0\nout 1\n")
    end = await pool.run(inline("program:fell_back", bundle=digest), task="d-0")
    assert (end.verdict, end.placement and end.placement.actual) == (Verdict.FALLBACK, "cpu")
    end = await pool.run(inline("program:nothing", bundle=digest), task="e-0")
    assert (end.verdict, end.cause) == (Verdict.ERROR, Cause.CONFIG)


async def test_modules_of_two_bundles_do_not_meet(pool: WorkerPool) -> None:
    one = await bundle(pool, same_py="import part\ndef f(): return part.X", part_py="X = 1")
    two = await bundle(pool, same_py="import part\ndef f(): return part.X", part_py="X = 2")
    found = []
    for index, digest in enumerate([one, two, one, two]):
        end = await pool.run(inline("same:f", bundle=digest), task=f"g{index}-0")
        found.append(json.loads(bytes(end.value)))
    assert found == [1, 2, 1, 2]


async def test_a_long_in_process_task_is_announced_and_blocks_no_heartbeat(
    tmp_path: Path,
) -> None:
    async with worker_pool(tmp_path, beat_s=0.02) as pool:
        digest = await bundle(pool, p_py="import time\ndef f(s):\n time.sleep(s)")
        token = pool.assign(inline("p:f", bundle=digest), params={"s": 0.5}, task="c-0")
        await pool.until(lambda: pool.told(e.AttemptStarted, token))
        before = len(pool.beats())
        end = await pool.finished(token)
        assert len(pool.beats()) > before + 3
        assert end.n == 1
        assert f"run1/{token}" in pool.beats()[before].held


async def test_thousands_of_in_process_tasks_each_end_once_and_in_order(pool: WorkerPool) -> None:
    spec = inline("builtins:dict")
    tokens = [pool.assign(spec, task=f"g-{i}", params={"i": i}) for i in range(3000)]
    await pool.until(lambda: not pool.agent.machine.attempts and pool.agent.machine.sequence > 3000)
    ends = pool.told(e.AttemptFinished)
    assert [end.token for end in ends] == tokens, "in the order they were assigned"
    assert json.loads(bytes(ends[-1].value)) == {"i": 2999}
    messages = [m for m in pool.log.messages if ".attempt." in m.subject]
    assert len(messages) < 1000, "many to a message"


@pytest.mark.parametrize("given", [{"env": {"A": "b"}}, {"artifacts": ["*"]}])
async def test_what_needs_a_process_is_refused_in_process(
    pool: WorkerPool, given: dict[str, Any]
) -> None:
    end = await pool.run(inline("builtins:dict", **given))
    assert (end.verdict, end.cause) == (Verdict.ERROR, Cause.CONFIG)
    assert "isolation" in end.message
