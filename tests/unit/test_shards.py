"""Dealing out a pytest run: each case once, the longest first, and all slots end together."""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Callable
from heapq import heappop, heappush

import pytest
from dtf.core.shards import DEALT_MAX, Planner, Shard
from hypothesis import given, settings
from hypothesis import strategies as st

ROUND_TRIP_US = 8_000


class Suite:
    """Files with cases that last; runs a shard as the runner on a worker would."""

    def __init__(self, files: dict[str, dict[str, int]], scoped: frozenset[str] = frozenset()):
        self.files = files
        self.scoped = scoped
        self.ran: Counter[str] = Counter()

    @property
    def ids(self) -> list[str]:
        return [each for cases in self.files.values() for each in cases]

    @property
    def total_us(self) -> int:
        return sum(us for cases in self.files.values() for us in cases.values())

    def wanted(self, entry: dict) -> list[str]:
        ids = set(entry.get("ids", self.files[entry["path"]])) - set(entry.get("not", ()))
        return [each for each in self.files[entry["path"]] if each in ids]

    def run(
        self, planner: Planner, task: str, shard: Shard, fails: Callable[[], bool] = lambda: False
    ) -> tuple[int, dict | None]:
        """Tells the planner of its cases; the time it took and the value it ended with."""
        params, spent = shard.params, 0
        budget = params.get("budget_ms", 10**9) * 1000
        rest = []
        for entry in params["files"]:
            path, left = entry["path"], self.wanted(entry)
            planner.on_collected(
                task,
                path,
                list(self.files[path]) if params.get("ids_wanted") else [],
                len(self.files[path]),
                scoped=path in self.scoped,
            )
            whole = params["split"] == "file" or (params["split"] == "auto" and path in self.scoped)
            begun = False
            while left and (spent < budget or (whole and begun)):
                if fails():
                    return spent, None
                case, begun = left.pop(0), True
                self.ran[case] += 1
                spent += self.files[path][case]
                planner.on_case(task, case, self.files[path][case])
            if left:
                rest.append({"path": path, "ids": left})
        return spent, {"rest": rest, "missing": []}


def makespan_us(planner: Planner, suite: Suite, slots: int) -> int:
    """When the last slot ends, in virtual time; a shard costs a round trip."""
    waiting = deque(planner.start())
    assert len(waiting) <= slots * 2
    running: list[tuple[int, int, str, dict | None]] = []
    now, tasks = 0, 0
    while waiting or running:
        while waiting and len(running) < slots:
            shard, tasks = waiting.popleft(), tasks + 1
            planner.bind(shard, f"t{tasks}")
            spent, value = suite.run(planner, f"t{tasks}", shard)
            heappush(running, (now + spent + ROUND_TRIP_US, tasks, f"t{tasks}", value))
        now, _, task, value = heappop(running)
        waiting.extend(planner.on_settled(task, value))
    assert planner.done
    return now


def sleeps(files: int, order: str) -> Suite:
    """A hundred cases from 2 ms to 1 s, most of them short."""
    last = [int(2_000 * 500 ** (place / 99)) for place in range(100)]
    if order == "longest first":
        last.reverse()
    elif order == "mixed":
        random.Random(3).shuffle(last)
    suite: dict[str, dict[str, int]] = {}
    for place, us in enumerate(last):
        path = f"tests/test_{place * files // 100}.py"
        suite.setdefault(path, {})[f"{path}::test_{place}"] = us
    return Suite(suite)


@pytest.mark.parametrize("files", [1, 10, 100])
@pytest.mark.parametrize("order", ["longest last", "longest first", "mixed"])
def test_skewed_sleeps_end_together_without_a_history(files: int, order: str) -> None:
    suite = sleeps(files, order)
    took = makespan_us(Planner(list(suite.files), slots=2), suite, 2)
    assert took / (suite.total_us / 2) <= 1.10
    assert set(suite.ran) == set(suite.ids)
    assert set(suite.ran.values()) == {1}


@pytest.mark.parametrize("files", [1, 10, 100])
@pytest.mark.parametrize("order", ["longest last", "longest first", "mixed"])
def test_skewed_sleeps_end_together_with_a_history(files: int, order: str) -> None:
    suite = sleeps(files, order)
    took = makespan_us(Planner(list(suite.files), slots=2, history=suite.files), suite, 2)
    assert took / (suite.total_us / 2) <= 1.03
    assert set(suite.ran) == set(suite.ids)
