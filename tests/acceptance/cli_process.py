"""`dtf` as a process in a directory of its own. Rule: facts are waited for, never time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil

LIMIT_S = 120.0
"""Only a broken program takes so long: the tests never depend on it."""
STARTER = """
name = "starter"
bundle = false
"""


class Place:
    """A project directory with a home of its own, so that no configuration of ours leaks in."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data_dir = directory / ".dtf"
        (directory / "dtf.toml").touch()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DTF_", "XDG_"))}
        self.env = {**kept, "HOME": str(directory / "home"), "COLUMNS": "100", "NO_COLOR": "1"}
        (directory / "home").mkdir(exist_ok=True)

    def suite(self, tasks: str, name: str = "suite.toml", head: str = STARTER) -> str:
        """A suite file; its name."""
        (self.directory / name).write_text(head + tasks)
        return name

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`dtf` runs."""
        return subprocess.Popen(
            [sys.executable, "-m", "dtf", *arguments],
            cwd=self.directory,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def dtf(self, *arguments: str) -> Done:
        """`dtf` ran to its end."""
        with self.start(*arguments) as process:
            return ended(process)

    def wait_for(self, name: str) -> str:
        """The content of a file that a task writes, once it is there."""
        path = self.directory / name
        until(lambda: path.exists() and path.read_text() != "", f"{name} is written")
        return path.read_text()

    def processes(self) -> list[str]:
        """Command lines of everything that works below this directory, or was started from it."""
        found = []
        for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
            info = process.info
            words = " ".join(info["cmdline"] or ())
            inside = str(self.directory) in words or str(info["cwd"] or "").startswith(
                str(self.directory)
            )
            if inside and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{info['pid']}: {words}")
        return found

    def nothing_runs(self) -> None:
        """Everything that was started from here has ended."""
        until(lambda: not self.processes(), lambda: f"no process is left: {self.processes()}")


class Done(msgspec.Struct):
    """What an ended command said."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        return msgspec.json.decode(self.out)


def ended(process: subprocess.Popen[str]) -> Done:
    """The process has ended."""
    out, err = process.communicate(timeout=LIMIT_S)
    return Done(process.returncode, out, err)


def interrupt(process: subprocess.Popen[str], number: int = signal.SIGINT) -> None:
    """The process itself got the signal, and its children did not."""
    process.send_signal(number)


def until(fact: Any, told: Any) -> None:
    """The fact holds; it is looked at often until then."""
    deadline = time.monotonic() + LIMIT_S
    while not fact():
        if time.monotonic() > deadline:
            raise AssertionError(told() if callable(told) else told)
        time.sleep(0.02)
