"""How long the cases of a suite last, from what the log says.

Rule: the same log gives the same durations; what is remembered is bounded, and the files that were
updated longest ago go first.

A small fold beside that of the pool, for tasks whose `spec.history` names where to remember: case
durations by history, class of hardware and file, in whole microseconds, each new one worth as much
as all before it together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from . import events as e
from .fold import Judged
from .ids import split_token
from .model import Case, Verdict
from .shard_files import SCOPED

CASES_MAX = 200_000
"""Most cases remembered in one pool."""
RUNS_MAX = 4_096
"""Most runs that are followed at once; of those that never settled, the oldest go first."""

Key = tuple[str, str]
"""(history, class of hardware)."""


class Durations:
    """Durations of cases by history, hardware and file; next to no cost without histories."""

    def __init__(self, cases_max: int = CASES_MAX) -> None:
        self.count = 0
        self._cases_max = cases_max
        self._files: dict[tuple[Key, str], dict[str, int]] = {}
        """In the order of their last update."""
        self._runs: dict[str, dict[str, Key]] = {}
        """Runs that are not settled: group -> where its durations belong."""

    def observe(self, judged: Judged) -> None:
        """Take note of a message that the pool's fold has judged."""
        subject = judged.subject
        if subject is None:
            return
        if subject.kind == "run":
            for event in _valid(judged):
                if isinstance(event, e.TasksSubmitted) and event.spec.history:
                    self._follow(subject.run, event)
        elif subject.run in self._runs:
            for event in _valid(judged):
                if isinstance(event, e.CasesReported):
                    self._cases(subject.run, event)
                elif isinstance(event, e.CasesCollected):
                    self._collected(subject.run, event)
                elif isinstance(event, e.RunSettled):
                    self._runs.pop(subject.run, None)

    def known(self, history: str, hardware: str) -> Iterator[tuple[str, Mapping[str, int]]]:
        """(file, {case id: microseconds}); the id "" is 1 when fixtures are shared in the file."""
        key = (history, hardware)
        return ((path, cases) for (of, path), cases in self._files.items() if of == key)

    def _follow(self, run: str, event: e.TasksSubmitted) -> None:
        key = (event.spec.history, event.spec.require.hardware)
        self._runs.setdefault(run, {})[event.group] = key
        if len(self._runs) > RUNS_MAX:
            del self._runs[next(iter(self._runs))]

    def _key(self, run: str, token: str) -> Key | None:
        named = split_token(token)
        return self._runs[run].get(named[0].rpartition("-")[0]) if named else None

    def _cases(self, run: str, event: e.CasesReported) -> None:
        key = self._key(run, event.token)
        if key is None:
            return
        for case in event.cases:
            if _counts(case):
                self._remember(key, case.id.partition("::")[0], case.id, case.duration_us or 0)
        self._bound()

    def _collected(self, run: str, event: e.CasesCollected) -> None:
        key = self._key(run, event.token)
        if key is None:
            return
        if event.scoped:
            self._remember(key, event.file, SCOPED, 1)
            self._bound()
        else:
            cases = self._files.get((key, event.file))
            if cases is not None and cases.pop(SCOPED, 0):
                self.count -= 1

    def _remember(self, key: Key, path: str, case_id: str, value: int) -> None:
        cases = self._files.pop((key, path), None) or {}
        self._files[key, path] = cases
        old = cases.get(case_id)
        if old is None:
            self.count += 1
            cases[case_id] = value
        else:
            cases[case_id] = (old + value + 1) // 2

    def _bound(self) -> None:
        while self.count > self._cases_max:
            place = next(iter(self._files))
            if len(self._files) > 1:
                self.count -= len(self._files.pop(place))
            else:
                cases = self._files[place]
                del cases[next(iter(cases))]
                self.count -= 1


def _valid(judged: Judged) -> Iterator[e.Event]:
    for event, void in zip(judged.events, judged.voids, strict=False):
        if not void and isinstance(event, e.Event):
            yield event


def _counts(case: Case) -> bool:
    """It ran to an end of its own: a skip or a crash says nothing of how long it lasts."""
    return case.duration_us is not None and case.verdict in (Verdict.PASSED, Verdict.FAILED)
