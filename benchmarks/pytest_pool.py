"""Pytest as a command, timed, with the processor time of everything that worked for it.

Rule: the clock runs from the start of the command to its end; nothing is taken off.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

LIMIT_S = 300
PASSED = re.compile(r"\b(\d+) passed\b")


class Spent(NamedTuple):
    """What one command took."""

    seconds: float
    cpu_s: float
    """Of the command, its children, and the pool that worked for it."""


class KeptPool:
    """A local pool between commands, by `dtf up --detach`; ended by `dtf down`."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.env = {**_clean(), "DTF_DATA_DIR": str(data_dir)}

    def cpu_s(self) -> float:
        """CPU seconds of every process of the pool so far, ended ones included."""
        return sum(_cpu_s(process) for process in self._processes())

    def _processes(self) -> list[psutil.Process]:
        """Whoever was started from the pool's data directory, down to the last child."""
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter(["environ"]):
            given = process.info["environ"] or {}
            if given.get("DTF_DATA_DIR") == str(self.data_dir):
                with suppress(psutil.NoSuchProcess):
                    for each in (process, *process.children(recursive=True)):
                        found[each.pid] = each
        return list(found.values())


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


@contextmanager
def kept_pool(data_dir: Path, workers: int = 2) -> Iterator[KeptPool]:
    """A pool of `workers` workers stands on `data_dir`."""
    data_dir.mkdir(parents=True, exist_ok=True)
    pool = KeptPool(data_dir)
    _dtf(pool, "up", "--detach", "--workers", str(workers))
    try:
        yield pool
    finally:
        _dtf(pool, "down")


def _dtf(pool: KeptPool, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dtf", *words],
        env=pool.env, cwd=pool.data_dir, capture_output=True, text=True, timeout=LIMIT_S,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"dtf {' '.join(words)}: {done.stdout}{done.stderr}")


def _clean() -> dict[str, str]:
    told = ("DTF_", "PYTEST_")
    return {name: value for name, value in os.environ.items() if not name.startswith(told)}


def run_pytest(
    where: Path,
    tests: int,
    *options: str,
    pool: KeptPool | None = None,
    env: dict[str, str] | None = None,
) -> Spent:
    """One pytest command in `where`; raises `RuntimeError` unless `tests` tests passed."""
    given = env or (pool.env if pool else _clean())
    before = _children_s() + (pool.cpu_s() if pool else 0.0)
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", *options],
        cwd=where, env=given, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=LIMIT_S, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    spent = _children_s() + (pool.cpu_s() if pool else 0.0) - before
    passed = PASSED.search(done.stdout)
    if passed is None or int(passed[1]) != tests:
        raise RuntimeError(
            f"{tests} tests should pass:\n{done.stdout[-3000:]}{done.stderr[-2000:]}"
        )
    return Spent(seconds, spent)


def plain(where: Path, tests: int) -> Spent:
    """Plain pytest, without the plugins this project brings."""
    return run_pytest(where, tests, "-p", "no:xdist", "-p", "no:dtf")


def xdist(where: Path, tests: int) -> Spent:
    """pytest-xdist with two processes."""
    return run_pytest(where, tests, "-p", "no:dtf", "-n2", "--dist=worksteal")


def on_pool(where: Path, tests: int, pool: KeptPool) -> Spent:
    """`pytest --dtf` on a pool that is up."""
    return run_pytest(where, tests, "-p", "no:xdist", "--dtf", pool=pool)


def cold(where: Path, tests: int, data_dir: Path) -> Spent:
    """`pytest --dtf` without a pool: it starts one of its own."""
    env = {**_clean(), "DTF_DATA_DIR": str(data_dir), "DTF_WORKERS": "2"}
    return run_pytest(where, tests, "-p", "no:xdist", "--dtf", env=env)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
