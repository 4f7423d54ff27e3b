"""One suite under plain pytest and under `pytest --dtf`, in one directory, in turn.

Rule: what plain pytest says in the same second is what is wanted; nothing is written down by hand.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_suites import Files, write
from suites.outcomes import Outcome, command, differences, environment, run_pytest

LIMIT_S = 120.0
"""Only a broken program takes so long."""
DTF = ("--dtf",)
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


class Pair:
    """A directory for suites, and the pool that `--dtf` finds."""

    def __init__(self, directory: Path, pool: Mapping[str, str]) -> None:
        self.base = directory
        self.directory = directory / "suite"
        self.pool = dict(pool)

    def fresh(self, files: Files) -> None:
        """The directory holds these files and nothing else."""
        shutil.rmtree(self.directory, ignore_errors=True)
        write(self.directory, files)

    def run(self, *options: str, dtf: bool, limit_s: float = LIMIT_S) -> Outcome:
        """One run in the directory as it is."""
        more, env = (DTF, self.pool) if dtf else ((), {})
        env = {**env, **ALONE, "HOME": str(self.base)}
        words = [*self._plugins(), *options, *more]
        return run_pytest(self.directory, words, env, self.base / "out.xml", limit_s)

    def _plugins(self) -> list[str]:
        """dtf's own plugin, and pytest-asyncio where the suite configures it (it warns elsewhere).

        Whatever else is installed here would double the time of a small suite.
        """
        ini = self.directory / "pytest.ini"
        told = ini.exists() and "asyncio" in ini.read_text()
        names = ["dtf.pytest_plugin", *(["pytest_asyncio.plugin"] if told else [])]
        return [word for name in names for word in ("-p", name)]

    def plain(self, files: Files, *options: str) -> Outcome:
        """Plain pytest on a fresh directory."""
        self.fresh(files)
        return self.run(*options, dtf=False)

    def dtf(self, files: Files, *options: str) -> Outcome:
        """`pytest --dtf` on a fresh directory."""
        self.fresh(files)
        return self.run(*options, dtf=True)

    def same(
        self, files: Files, *options: str, extra: Sequence[str] = ()
    ) -> tuple[Outcome, Outcome]:
        """Both say the same; `extra` are options for `--dtf` only."""
        plain = self.plain(files, *options)
        other = self.dtf(files, *options, *extra)
        told = differences(plain, other)
        assert not told, "\n".join([*told, "--- plain", plain.out, "--- dtf", other.out])
        return plain, other

    def same_after(self, files: Files, *steps: Sequence[str]) -> tuple[Outcome, Outcome]:
        """Both say the same in every step, each step on what the one before left behind."""
        runs: list[list[Outcome]] = []
        for dtf in (False, True):
            self.fresh(files)
            runs.append([self.run(*step, dtf=dtf) for step in steps])
        for plain, other, step in zip(*runs, steps, strict=True):
            told = differences(plain, other)
            assert not told, "\n".join([*step, *told, plain.out, "--- dtf", other.out])
        return runs[0][-1], runs[1][-1]

    def start(self, files: Files, *options: str) -> subprocess.Popen[str]:
        """`pytest --dtf` runs on a fresh directory."""
        self.fresh(files)
        return subprocess.Popen(
            command([*self._plugins(), *options, *DTF], self.base / "out.xml"),
            cwd=self.directory,
            env=environment({**self.pool, **ALONE, "HOME": str(self.base)}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def interrupted(process: subprocess.Popen[str]) -> str:
    """What the process said until it ended after one Ctrl-C."""
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=LIMIT_S)[0]


def lines(out: str, start: str) -> list[str]:
    """The lines of the output that begin so, in order."""
    return [line.rstrip() for line in out.splitlines() if line.startswith(start)]
