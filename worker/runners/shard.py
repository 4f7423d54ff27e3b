"""What became of a shard of a pytest suite, over all the processes it took. Rule: pure; a case that
ends its process costs itself, and is tried once more alone; everything else goes on.

The agent starts a process for each `Work` this gives out, and tells how it ended.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from ...core.model import Case, Verdict
from ..processes import Facts
from .outcome import signal_name
from .report import Report

CUT_STATUS = 77
"""Exit status of a process that cut a case at its own limit (`worker/runners/pytest`)."""
TAIL_MAX = 3000


class Work(NamedTuple):
    """Parameters for one process; `again` is the case it tries once more, alone."""

    params: dict[str, Any]
    again: str = ""

    @property
    def fresh(self) -> bool:
        """It must not share a process with others."""
        return bool(self.again)


class Shard:
    """One attempt. Take `work`, run it, tell `ended`, until `work` is None."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.work: Work | None = Work(params)
        self.processes = 0
        self.stopped = False
        """A limit of the whole attempt ended it."""
        self._crashes: dict[str, str] = {}
        """Cases that ended their process, and how; those told for good included."""
        self._queue: list[Work] = []
        self._value: dict[str, Any] = {}
        self._reported = 0
        """Cases reported by the processes that ended."""

    @property
    def value(self) -> msgspec.Raw | None:
        """What the attempt returns, as JSON; None when no process returned anything."""
        return msgspec.Raw(msgspec.json.encode(self._value)) if self._value else None

    def retold(self, cases: list[Case]) -> list[Case]:
        """The cases as they count: one that is tried again after a crash says so."""
        again = self.work.again if self.work else ""
        if not again:
            return cases
        return [
            msgspec.structs.replace(
                case,
                tries=case.tries + 1,
                message=case.message or f"passed when tried again alone: {self._crashes[again]}",
                detail=_crash_detail(self._crashes[again], case.detail),
            )
            if case.id == again
            else case
            for case in cases
        ]

    def ended(self, facts: Facts, report: Report) -> list[Case]:
        """The process of `work` is gone; cases that only its end tells of. `work` is the next."""
        work, self.work = self.work, None
        assert work is not None
        self.processes += 1
        end = report.end
        if end is not None and facts.why == "" and facts.code != CUT_STATUS:
            self._returned(work, report)
            return []
        done = report.done or set()
        went_on = len(done) > self._reported
        self._reported = len(done)
        told, blamed = self._blame(work, facts, report.begun, went_on)
        if not self.stopped:
            self._go_on(work, done | blamed, went_on or bool(blamed))
        return told

    def _returned(self, work: Work, report: Report) -> None:
        assert report.end is not None
        if report.end.status != "returned":
            self._queue.clear()  # the session was ended by a test, or cannot run at all
            end = report.end
            told = {"status": end.status, "message": end.message, "exit_code": end.exit_code}
            self._value["ended"] = told
        elif len(report.end.value):
            value = msgspec.json.decode(report.end.value, type=dict[str, Any])
            for key in ("rest", "missing", "elsewhere"):
                if key != "elsewhere" or key in value or key in self._value:
                    value[key] = [*self._value.get(key, ()), *value.get(key, ())]
            self._value.update(value)
        self._next()

    def _next(self) -> None:
        self.work = self._queue.pop(0) if self._queue else None

    def _blame(
        self, work: Work, facts: Facts, begun: str, went_on: bool
    ) -> tuple[list[Case], set[str]]:
        """The case the process ended in, as far as it is over by that, and the ids to leave out."""
        self.stopped = facts.why in ("killed", "wall", "silence", "scratch")
        files = work.params.get("files", ())
        if not begun and not went_on and len(files) == 1:
            begun = work.again or files[0]["path"]
        if facts.why == "killed" or not begun:
            return [], set()
        text = describe_end(facts)
        timed_out = facts.code == CUT_STATUS or facts.why in ("wall", "silence")
        again = bool(self._crashes.get(begun)) or work.again == begun
        may_retry = not (timed_out or facts.why or again or "::" not in begun)
        self._crashes[begun] = text
        if may_retry:
            self._queue.insert(0, Work(only(self.params, begun), begun))
            return [], {begun}
        verdict = Verdict.TIMED_OUT if timed_out else Verdict.FAILED
        if "::" not in begun:
            verdict, text = Verdict.ERROR, f"{text} while the file was collected"
        case = Case(
            id=begun[:2048],
            verdict=verdict,
            message=text,
            tries=2 if again else 1,
            detail=_crash_detail(text, b"", facts.tail),
        )
        return [case], {begun}

    def _go_on(self, work: Work, done: set[str], blamed: bool) -> None:
        """Whatever the ended process has not reported is queued."""
        rest = without(work.params, done)
        files = [] if work.again else rest.get("files", [])
        if files and blamed:
            self._queue.append(Work(rest))
        else:  # nobody to blame: it ended before a case was begun, so each file is run alone
            self._queue += [Work({**rest, "files": [file]}) for file in files]
        self._next()


def without(params: dict[str, Any], done: set[str]) -> dict[str, Any]:
    """The parameters less the cases (and whole files) in `done`."""
    files = []
    for file in params.get("files", ()):
        path = file["path"]
        if path in done:
            continue
        mine = [name for name in done if name.startswith(f"{path}::")]
        if "ids" in file:
            left = [name for name in file["ids"] if name not in done]
            if left:
                files.append({**file, "ids": left})
        elif mine:
            files.append({**file, "not": [*file.get("not", ()), *sorted(mine)]})
        else:
            files.append(file)
    return {**params, "files": files}


def only(params: dict[str, Any], case: str) -> dict[str, Any]:
    """The parameters for that case alone."""
    path = case.partition("::")[0]
    kept = {key: value for key, value in params.items() if key != "budget_ms"}
    return {**kept, "files": [{"path": path, "ids": [case]}]}


def describe_end(facts: Facts) -> str:
    """How the interpreter ended, in words."""
    if facts.code == CUT_STATUS:
        return "ran past its time limit; its stacks are in the output"
    if facts.why in ("wall", "silence"):
        return "the attempt ran past its limit while it ran"
    if facts.why in ("memory", "oom"):
        return "took more memory than there was"
    if facts.code < 0:
        return f"the interpreter died ({signal_name(-facts.code)}) while it ran"
    return f"the interpreter ended with status {facts.code} while it ran (os._exit?)"


def _crash_detail(text: str, detail: bytes | msgspec.Raw, tail: bytes = b"") -> msgspec.Raw:
    known = msgspec.json.decode(detail, type=dict[str, Any]) if len(detail) else {}
    known["crash"] = text
    if tail:
        known["tail"] = tail[-TAIL_MAX:].decode("utf-8", "replace")
    return msgspec.Raw(msgspec.json.encode(known))
