"""The warm program alone, as its supervisor sees it: what it says on its socket, what it runs."""

from __future__ import annotations

import ctypes
import marshal
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dtf.worker.warm.chain import PROGRAM

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks and reads /proc")
LIMIT_S = 20.0
SET_CHILD_SUBREAPER = 36


class Line:
    """Our end of a control socket."""

    def __init__(self, ours: socket.socket) -> None:
        self.socket = ours
        ours.settimeout(LIMIT_S)

    def say(self, *frame: Any, fds: tuple[int, ...] = ()) -> None:
        data = marshal.dumps(frame)
        data = len(data).to_bytes(4, "little") + data
        if fds:
            sent = socket.send_fds(self.socket, [data], list(fds))
            data = data[sent:]
        self.socket.sendall(data)

    def hear(self) -> Any:
        """The next frame; None at the end."""
        head = self._read(4)
        return marshal.loads(self._read(int.from_bytes(head, "little"))) if head else None

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                return b""
            data += more
        return data


class Child(Line):
    """A clone: its socket, and what it prints."""

    def __init__(self, ours: socket.socket, output: int) -> None:
        super().__init__(ours)
        self.output = output
        self.pid = 0

    def greet(self) -> int:
        kind, self.pid, _ = self.hear()
        assert kind == "hello"
        return self.pid

    def printed(self) -> str:
        """All it prints until its end."""
        data = b""
        while more := os.read(self.output, 65536):
            data += more
        return data.decode()

    def end(self) -> int:
        """Its exit status, or minus the signal."""
        while True:
            try:
                return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            except ChildProcessError:  # it is ours once the process between has ended
                assert os.path.exists(f"/proc/{self.pid}")


class Warm(Line):
    """A warm program, forked from by the test."""

    def __init__(self, folder: Path) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", PROGRAM, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        super().__init__(ours)
        self.folder = folder
        self.open: list[Any] = [ours]

    def prepare(self, **payload: Any) -> dict[str, Any]:
        given = {"kind": "import", "runners": ["python"], "modules": [], "path": [], **payload}
        self.say("prepare", given)
        while (frame := self.hear())[0] != "ready":
            pass
        facts: dict[str, Any] = frame[1]
        return facts

    def fork(self, serial: int = 1) -> Child:
        ours, theirs = socket.socketpair()
        reader, writer = os.pipe()
        self.say("fork", [serial], fds=(theirs.fileno(), writer))
        theirs.close()
        os.close(writer)
        self.open += [ours, reader]
        return Child(ours, reader)

    def start(self, call: str, *, once: bool = True, **env: str) -> Child:
        """A clone that runs a callable of `tasks.py`."""
        child = self.fork()
        child.say("run", 1, self.order(call, once=once, **env))
        child.greet()
        return child

    def order(self, call: str, *, once: bool = True, **env: str) -> dict[str, Any]:
        variables = {"PATH": os.defpath, "DTF_PARAMS": "{}", "DTF_BUNDLE": str(self.folder), **env}
        work = {"kind": "python", "target": f"tasks:{call}"}
        return {"env": variables, "cwd": str(self.folder), "once": once, "work": work}

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / f"{name}.py").write_text(textwrap.dedent(text))


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[Warm]:
    """A program whose orphans become ours, as those of the supervisor's do."""
    prctl = ctypes.CDLL(None).prctl
    prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    program = Warm(tmp_path)
    yield program
    for each in program.open:
        each.close() if isinstance(each, socket.socket) else os.close(each)
    assert program.process.wait(LIMIT_S) == 0, "it ends with whoever started it"
    prctl(SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def test_it_says_hello_then_what_it_prepared(warm: Warm) -> None:
    kind, pid, at = warm.hear()
    assert (kind, pid) == ("hello", warm.process.pid)
    assert 0 < at <= time.monotonic_ns()
    facts = warm.prepare(modules=["colorsys", "no_such_module"])
    assert facts["pid"] == warm.process.pid
    assert facts["threads"] == 1
    assert facts["problem"] == (
        "preload 'no_such_module': ModuleNotFoundError: No module named 'no_such_module'"
    )


def test_a_clone_has_what_was_imported_and_nothing_else_of_the_parent(warm: Warm) -> None:
    warm.write(
        tasks="""
        import os, sys
        def f():
            print("colorsys" in sys.modules, os.getcwd(), os.environ.get("LEFT"))
            print(os.getsid(0) == os.getpid() == os.getpgid(0), os.listdir("/proc/self/fd"))
            print(sys.stdin.read(), sys.argv[1], sys.path[0])
        """
    )
    warm.prepare(modules=["colorsys"])
    child = warm.start("f", LEFT="over")
    printed = child.printed().splitlines()
    assert child.end() == 0
    assert printed[0] == f"True {warm.folder} over"
    alone, _, descriptors = printed[1].partition(" ")
    assert alone == "True"
    assert len(descriptors.split()) == 5, "streams, its socket, and the folder it looks at"
    assert printed[2] == f" tasks:f {warm.folder}"
    child = warm.start("f")
    assert child.printed().splitlines()[0].endswith(" None")
    child.end()


def test_clones_draw_different_random_numbers(warm: Warm) -> None:
    warm.write(tasks="import random\ndef f(): print(random.random())")
    warm.prepare(modules=["random"])
    children = [warm.start("f") for _ in range(3)]
    assert len({child.printed() for child in children}) == 3
    assert [child.end() for child in children] == [0, 0, 0]


def test_a_clone_ends_as_a_script_does(warm: Warm) -> None:
    warm.write(
        tasks="""
        import atexit, threading, time
        kept = []
        def f():
            kept.append(open("never_closed", "w"))
            kept[0].write("written")
            atexit.register(print, "called at exit")
            threading.Thread(target=lambda: (time.sleep(0.05), print("thread"))).start()
        """
    )
    warm.prepare()
    child = warm.start("f")
    assert child.printed() == "thread\ncalled at exit\n"
    assert child.end() == 0
    assert (warm.folder / "never_closed").read_text() == "written"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("import os; os._exit(7)", 7),
        ("import sys; sys.exit(3)", 3),
        ("raise ValueError('no')", 1),
        ("import os; os.abort()", -6),
        ("import sys; sys.stdout.close()", 0),
        ("import os; os.closerange(0, 100)", 0),
        ("import os; os.fork() or os._exit(5); os.wait()", 0),
        ("import os; os.fork() and os.wait()", 0),
    ],
)
def test_what_a_clone_ends_as(warm: Warm, body: str, status: int) -> None:
    warm.write(tasks=f"def f():\n {body}")
    warm.prepare()
    assert warm.start("f").end() == status
    warm.write(tasks="def f(): pass")
    child = warm.start("f")
    assert child.end() == 0, "the parent is none the worse"


def test_a_process_that_runs_several_says_how_each_ended(warm: Warm) -> None:
    warm.write(
        tasks="""
        import sys
        def grow():
            block = bytearray(50_000_000)
            sum(range(300_000))
        def quit(): sys.exit(9)
        """
    )
    warm.prepare()
    child = warm.fork()
    for key, call in enumerate(("grow", "quit")):
        child.say("run", key, warm.order(call, once=False))
    child.say("exit")
    child.greet()
    kind, key, status, usage = child.hear()
    assert (kind, key, status) == ("end", 0, 0)
    assert usage["cpu_us"] > 1000
    assert usage["peak_rss"] > 50_000_000
    kind, key, status, usage = child.hear()
    assert (kind, key, status) == ("end", 1, 9)
    assert usage["peak_rss"] < 50_000_000, "each has its own peak"
    assert child.hear() is None
    assert child.end() == 0


def test_a_process_with_threads_becomes_the_child_it_was_asked_for(warm: Warm) -> None:
    warm.write(
        threaded="""
        import threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        """,
        tasks="import os\ndef f(): print(os.getpid())",
    )
    facts = warm.prepare(modules=["threaded"], path=[str(warm.folder)])
    assert facts["threads"] == 2
    child = warm.start("f")
    assert warm.hear() == ("became", 1, "2 threads run in it")
    assert warm.hear() is None, "it no longer serves as a parent"
    assert child.pid == warm.process.pid
    assert child.printed() == f"{child.pid}\n"


def test_a_module_of_the_task_is_not_hidden_by_one_of_ours(warm: Warm) -> None:
    warm.write(tasks="import linecache\ndef f(): print(linecache.MINE)", linecache="MINE = 1")
    warm.prepare()
    child = warm.start("f")
    assert child.printed() == "1\n"
    assert child.end() == 0


def test_work_of_an_unknown_kind_is_named(warm: Warm) -> None:
    warm.prepare()
    child = warm.fork()
    order = warm.order("f")
    order["work"] = {"kind": "cobol"}
    child.say("run", 1, order)
    child.greet()
    assert "'cobol'" in child.printed()
    assert child.end() == 1


def test_what_could_not_be_prepared_is_said_by_the_run(warm: Warm) -> None:
    facts = warm.prepare(kind="cobol")
    assert "'cobol'" in facts["problem"]
    child = warm.start("f")
    assert "'cobol'" in child.printed()
    assert child.end() == 70
