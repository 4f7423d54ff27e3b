"""Dealing out a pytest run: each case once, the longest first, and all slots end together."""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Callable
from heapq import heappop, heappush

import pytest
from dtf.core.shard_files import part_of
from dtf.core.shards import DEALT_MAX, Planner, Shard
from hypothesis import given, settings
from hypothesis import strategies as st

ROUND_TRIP_US = 8_000


class Suite:
    """Files with cases that last; runs a shard as the runner on a worker would."""

    def __init__(
        self,
        files: dict[str, dict[str, int]],
        scoped: frozenset[str] = frozenset(),
        *,
        names: bool = True,
    ) -> None:
        """`names`: ids are told; where there are too many, they are not."""
        self.names = names
        self.files = files
        self.scoped = scoped
        self.ran: Counter[str] = Counter()
        self._parts: dict[tuple[str, int, str], dict[int, list[str]]] = {}

    @property
    def ids(self) -> list[str]:
        return [each for cases in self.files.values() for each in cases]

    @property
    def total_us(self) -> int:
        return sum(us for cases in self.files.values() for us in cases.values())

    def wanted(self, entry: dict, split: str = "auto") -> list[str]:
        path, unwanted = entry["path"], set(entry.get("not", ()))
        if "part" in entry:
            number, count = entry["part"]
            found = self._in_parts(path, count, split).get(number, [])
        elif "ids" in entry:
            wanted = set(entry["ids"])
            found = [each for each in self.files[path] if each in wanted]
        else:
            found = list(self.files[path])
        return [each for each in found if each not in unwanted]

    def _in_parts(self, path: str, count: int, split: str) -> dict[int, list[str]]:
        parts = self._parts.get((path, count, split))
        if parts is None:
            parts = self._parts[path, count, split] = {}
            for each in self.files[path]:
                parts.setdefault(part_of(each, count, split), []).append(each)
        return parts

    def run(
        self, planner: Planner, task: str, shard: Shard, fails: Callable[[], bool] = lambda: False
    ) -> tuple[int, dict | None]:
        """Tells the planner of its cases; the time it took and the value it ended with."""
        params, spent = shard.params, 0
        budget = params.get("budget_ms", 10**9) * 1000
        rest = []
        for entry in params["files"]:
            path, left = entry["path"], deque(self.wanted(entry, params["split"]))
            planner.on_collected(
                task,
                path,
                list(self.files[path]) if params.get("ids_wanted") and self.names else [],
                len(self.files[path]),
                scoped=path in self.scoped,
            )
            whole = params["split"] == "file" or (params["split"] == "auto" and path in self.scoped)
            begun = False
            while left and (spent < budget or (whole and begun)):
                if fails():
                    return spent, None
                case, begun = left.popleft(), True
                self.ran[case] += 1
                spent += self.files[path][case]
                planner.on_case(task, case, self.files[path][case])
            if left:
                rest.append({"path": path} | ({"ids": list(left)} if self.names else {}))
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
    assert took / (suite.total_us / 2) <= 1.015
    assert set(suite.ran) == set(suite.ids)


def test_old_durations_that_are_wrong_by_half_cost_little() -> None:
    suite, rng = sleeps(10, "mixed"), random.Random(5)
    wrong = {
        path: {each: int(us * rng.uniform(0.5, 1.5)) for each, us in cases.items()}
        for path, cases in suite.files.items()
    }
    took = makespan_us(Planner(list(suite.files), slots=2, history=wrong), suite, 2)
    assert took / (suite.total_us / 2) <= 1.03


def test_shards_without_a_history_stay_few_where_cases_are_short() -> None:
    cases = {
        f"t/test_{n}.py": {f"t/test_{n}.py::test_{m}": 300 for m in range(40)} for n in range(50)
    }
    suite, planner = Suite(cases), Planner(list(cases), slots=2)
    took = makespan_us(planner, suite, 2)
    assert planner._number <= 30  # 50 files, 0.6 s of work: the round trips stay in the background
    assert took < suite.total_us / 2 + 15 * ROUND_TRIP_US
    again = Planner(list(cases), slots=2, history=cases)
    assert makespan_us(again, suite, 2) < suite.total_us / 2 + 8 * ROUND_TRIP_US


def test_many_cases_cost_linear_time() -> None:
    def seconds(count: int, history: bool) -> float:
        cases = {"t/test_a.py": {f"t/test_a.py::test_x[{n}]": n % 7 * 3_000 for n in range(count)}}
        suite = Suite(cases, names=count < 10_000)
        begun = time.process_time()
        makespan_us(Planner(["t/test_a.py"], slots=4, history=cases if history else None), suite, 4)
        assert len(suite.ran) == suite.ran.total() == count
        return time.process_time() - begun

    for history in (True, False):
        small = seconds(5_000, history)
        assert seconds(50_000, history) < 25 * small + 1


@pytest.mark.parametrize("split", ["auto", "class", "file"])
def test_what_shares_a_fixture_is_not_divided(split: str) -> None:
    """A file with a module fixture (auto), a class (class), a file (file) runs in one shard."""
    ids = [f"t/test_a.py::Test{n // 50}::test_{n}" for n in range(200)]
    history = {"t/test_a.py": dict.fromkeys(ids, 20000)}
    suite = Suite(history, frozenset(["t/test_a.py"]))
    scoped = {"t/test_a.py": history["t/test_a.py"] | {"": 1}}
    planner = Planner(["t/test_a.py"], slots=2, history=scoped, split=split)
    shards = planner.start()
    assert len(shards) == (4 if split == "class" else 1)
    lots = [suite.wanted(shard.params["files"][0]) for shard in shards]
    assert sorted(each for lot in lots for each in lot) == sorted(ids)
    assert all(len({each.split("::")[1] for each in lot}) == 1 for lot in lots) or split != "class"


def test_a_group_stays_together() -> None:
    ids = [f"t/test_a.py::test_{n}" for n in range(40)]
    planner = Planner(["t/test_a.py"], slots=4, split="group")
    (first,) = planner.start()
    planner.bind(first, "t1")
    groups = dict.fromkeys(ids[::2], "db")
    planner.on_collected("t1", "t/test_a.py", ids, 40, groups=groups)
    planner.on_case("t1", ids[0], 100_000)
    shards = planner.on_settled("t1", {"rest": [{"path": "t/test_a.py", "ids": ids[1:]}]})
    holds = [shard for shard in shards if set(shard.params["files"][0]["ids"]) & set(groups)]
    assert len(holds) == 1
    assert set(groups) - {ids[0]} <= set(holds[0].params["files"][0]["ids"])


def test_new_cases_of_a_divided_file_run() -> None:
    known = {"t/test_a.py": {f"t/test_a.py::test_{n}": 100_000 for n in range(20)}}
    now = {"t/test_a.py": known["t/test_a.py"] | {"t/test_a.py::test_new": 100_000}}
    suite = Suite(now)
    makespan_us(Planner(["t/test_a.py"], slots=2, history=known), suite, 2)
    assert suite.ran["t/test_a.py::test_new"] == 1
    assert set(suite.ran.values()) == {1}


@pytest.mark.parametrize("split", ["auto", "case", "class"])
@pytest.mark.parametrize("history", [True, False])
def test_a_file_with_too_many_cases_to_name_is_divided_by_number(split: str, history: bool) -> None:
    ids = [f"t/test_a.py::Test{n // 40}::test_x[{n}]" for n in range(8_000)]
    suite = Suite({"t/test_a.py": dict.fromkeys(ids, 1000)}, names=False)
    planner = Planner(
        ["t/test_a.py"], slots=4, history=suite.files if history else None, split=split
    )
    took = makespan_us(planner, suite, 4)
    assert suite.ran == Counter(ids)
    assert took < 1.35 * suite.total_us / 4


def test_cases_that_are_gone_are_no_matter() -> None:
    known = {"t/test_a.py": {f"t/test_a.py::test_{n}": 100_000 for n in range(20)}}
    suite = Suite({"t/test_a.py": {"t/test_a.py::test_3": 100_000}})
    makespan_us(Planner(["t/test_a.py"], slots=2, history=known), suite, 2)
    assert suite.ran == {"t/test_a.py::test_3": 1}


def test_only_what_was_asked_for_is_dealt() -> None:
    known = {"t/test_a.py": {f"t/test_a.py::test_x[{n}]": 100_000 for n in range(20)}}
    function = Planner(
        ["t/test_a.py"], slots=2, history=known, selected={"t/test_a.py": ["t/test_a.py::test_x"]}
    )
    (shard,) = function.start()  # it may have parameters nobody knows yet: it stays in one piece
    assert shard.params["files"] == [{"path": "t/test_a.py", "ids": ["t/test_a.py::test_x"]}]
    two = ["t/test_a.py::test_x[3]", "t/test_a.py::test_x[5]"]
    cases = Planner(["t/test_a.py"], slots=2, history=known, selected={"t/test_a.py": two})
    named = [each for shard in cases.start() for each in shard.params["files"][0]["ids"]]
    assert sorted(named) == two


def test_rest_of_an_asked_function_is_dealt_by_case() -> None:
    asked = {"t/test_a.py": ["t/test_a.py::test_x"]}
    planner = Planner(["t/test_a.py"], slots=2, selected=asked)
    (first,) = planner.start()
    planner.bind(first, "t1")
    ids = [f"t/test_a.py::test_x[{n}]" for n in range(9)]
    planner.on_collected("t1", "t/test_a.py", ids, 9)
    planner.on_case("t1", ids[0], 300_000)
    shards = planner.on_settled("t1", {"rest": [{"path": "t/test_a.py", "ids": ids[1:]}]})
    assert [len(shard.params["files"][0]["ids"]) for shard in shards] == [1, 1, 1, 1]


def test_a_shard_that_ends_without_a_value_again_and_again_is_lost() -> None:
    planner = Planner(["t/test_a.py"], slots=1)
    shards, count = planner.start(), 0
    while shards:
        count += 1
        planner.bind(shards[0], f"t{count}")
        shards = planner.on_settled(f"t{count}", None)
    assert count == DEALT_MAX
    assert planner.done
    assert planner.lost == {"t/test_a.py": []}


def test_a_stop_without_progress_is_no_endless_loop() -> None:
    planner = Planner(["t/test_a.py"], slots=1)
    shards, count, rest = planner.start(), 0, {"rest": [{"path": "t/test_a.py", "ids": ["t::x"]}]}
    while shards:
        count += 1
        planner.bind(shards[0], f"t{count}")
        shards = planner.on_settled(f"t{count}", rest)
    assert count == DEALT_MAX
    assert planner.lost == {"t/test_a.py": ["t::x"]}


def test_what_a_repeated_attempt_reports_is_known() -> None:
    planner = Planner(["t/test_a.py"], slots=1)
    planner.bind(planner.start()[0], "t1")
    assert planner.on_case("t1", "t/test_a.py::test_x", 5) is True
    assert planner.on_case("t1", "t/test_a.py::test_x", 5) is False


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"slots": 0}, "slots is 0"), ({"split": "half"}, "'half'"), ({"budget_ms": 0}, "budget_ms")],
)
def test_wrong_arguments_are_named(wrong: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Planner(["a.py"], **({"slots": 1} | wrong))


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 400_000), max_size=30), max_size=12),
    st.integers(1, 5),
    st.sampled_from(["auto", "case", "class", "group", "file", "module"]),
    st.floats(0, 1),
    st.randoms(use_true_random=False),
    st.integers(0, 5),
    st.booleans(),
)
def test_each_case_is_dealt_once_and_it_ends(
    files: list[list[int]],
    slots: int,
    split: str,
    share_known: float,
    rng: random.Random,
    crashes: int,
    names: bool,
) -> None:
    """Whatever comes back: a crash in the middle, a history of other cases, one of everything."""
    suite = Suite(
        {
            f"t/test_{n}.py": {f"t/test_{n}.py::C{m % 3}::test_{m}": us for m, us in enumerate(of)}
            for n, of in enumerate(files)
        },
        frozenset(f"t/test_{n}.py" for n in range(0, len(files), 2)),
        names=names,
    )
    history = {
        path: {each: rng.randrange(10**6) for each in cases if rng.random() < share_known}
        | {f"{path}::gone": 1000, "": rng.randrange(2)}
        for path, cases in suite.files.items()
        if rng.random() < share_known
    }
    left = [crashes]

    def fails() -> bool:
        left[0] -= (crash := left[0] > 0 and rng.random() < 0.1)
        return crash

    planner = Planner(list(suite.files), slots=slots, history=history, split=split)
    waiting, dealt = list(planner.start()), 0
    while waiting:
        dealt += 1
        assert len(waiting) <= slots * 2
        shard = waiting.pop(rng.randrange(len(waiting)))
        planner.bind(shard, f"t{dealt}")
        _, value = suite.run(planner, f"t{dealt}", shard, fails)
        waiting += planner.on_settled(f"t{dealt}", value)
        assert dealt < 3 * len(suite.ids) + 4 * len(files) + 20
    assert planner.done
    missed = set(suite.ids) - set(suite.ran)
    lost = set(planner.lost)
    assert all(case.partition("::")[0] in lost for case in missed)
    assert not missed or crashes >= DEALT_MAX
    assert all(count == 1 for count in suite.ran.values())
