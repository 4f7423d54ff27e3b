"""W3: isolated Python callables, each in a process of its own forked from a warm parent.

Rule: the bare loops beside it do only what cannot be left out: start, wait, collect.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory

from ..core.ids import random_id
from ..core.model import TaskSpec
from ..core.submit import GroupPlan, Submission, json_items
from .figures import Figure, times
from .pool import BenchPool
from .pytest_runs import beside

ISOLATED = TaskSpec(runner="python", target="dtf.benchmarks.tasks:noop", isolation="process")
FORKS = (
    "import os, sys, time\nimport dtf.benchmarks.tasks\nn = int(sys.argv[1])\n"
    "started = time.perf_counter()\nfor _ in range(n):\n    pid = os.fork()\n"
    "    if not pid:\n        os._exit(0)\n    os.waitpid(pid, 0)\n"
    "print(n / (time.perf_counter() - started))\n"
)


def serial_loop(number: int) -> float:
    """Processes a second of a serial `python -c pass` loop."""
    started = time.perf_counter()
    for _ in range(number):
        subprocess.run([sys.executable, "-c", "pass"], check=True)
    return number / (time.perf_counter() - started)


def fork_loop(number: int) -> float:
    """Forks a second of a small warm parent: the floor of any zygote."""
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(number)], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


async def isolated(pool: BenchPool, tasks: int) -> tuple[float, float]:
    """(tasks a second, CPU us a task) of `tasks` isolated callables, submit to settled."""
    items = json_items([{"i": number} for number in range(tasks)])
    group = GroupPlan(name="isolated", spec=ISOLATED, items=items)
    submission = Submission(publisher="bench", key=random_id(12), groups=[group])
    cpu, started = pool.cpu_s(), time.perf_counter()
    run = await pool.client.submit(submission)
    async with aclosing(pool.client.follow(run)) as views:
        async for view in views:
            if view.done:
                break
    seconds = time.perf_counter() - started
    if view.counts != {"passed": tasks}:
        raise RuntimeError(f"not all passed: {view.counts}")
    return tasks / seconds, (pool.cpu_s() - cpu) / tasks * 1e6


async def measure_zygote(rounds: int, tasks: int = 500) -> list[Figure]:
    """W3 of the issue, isolated Python callables."""
    rates, forks = [], []
    with TemporaryDirectory(prefix="dtf-bench-") as scratch:
        async with BenchPool(Path(scratch)) as pool:
            await isolated(pool, 50)
            for _ in range(rounds):
                before = serial_loop(40)
                rate, _ = await isolated(pool, tasks)
                after = serial_loop(40)
                rates.append((rate, (before + after) / 2))
                forks.append((rate, fork_loop(tasks)))
    name = f"{tasks} isolated Python callables"
    return [
        times(f"{name}, {os.cpu_count()} cores", rates, "tasks/s", "serial `python -c pass`", 6.0),
        beside(f"{name}, beside a bare loop of fork", forks, "serial os.fork + wait", "tasks/s"),
    ]
