"""What a test reports about itself, read and bounded. Rule: nothing a test writes can break an
event or the agent.

The lines are those of `core/report.py`, one JSON object each, plus {"end": ...} written by our
own child program.
"""

from __future__ import annotations

from math import isfinite
from typing import Any, Literal, TypeVar

import msgspec

from ...core.model import ABSENT, Case, Measurement, Placement, Verdict

LINE_BYTES_MAX = 1024 * 1024
EVENT_BYTES = 64 * 1024
"""Roughly the size of one CasesReported; far below what a message may have."""
ENTRIES_MAX = 100_000
"""Most cases and measurements kept of one attempt."""
SAMPLES_MAX = 2_000


class _Measurement(msgspec.Struct):
    name: str
    value: float
    unit: str = ""
    case: str | None = None
    samples: list[float] | None = None


class _Case(msgspec.Struct):
    id: str
    verdict: Verdict
    duration_us: int | None = None
    message: str = ""
    tries: int = 1
    detail: msgspec.Raw = ABSENT


class Collected(msgspec.Struct):
    """The cases of one file, or as many of them as the line holds. Fields as in
    `CasesCollected`."""

    file: str
    selected: int
    deselected: int = 0
    digest: str = ""
    ids: list[str] = []
    scoped: bool = False


class _Placement(msgspec.Struct):
    requested: str
    actual: str
    detail: str = ""


class _Skip(msgspec.Struct):
    reason: str = ""


class End(msgspec.Struct):
    """What our child program says last: how the callable or script ended."""

    status: Literal["returned", "raised", "exited", "config", "interrupted"]
    message: str = ""
    exit_code: int = 0
    value: msgspec.Raw = msgspec.Raw(b"")


class Line(msgspec.Struct):
    """One line; a key that is absent is None."""

    measurement: _Measurement | None = None
    case: _Case | None = None
    placement: _Placement | None = None
    skip: _Skip | None = None
    end: End | None = None
    collected: Collected | None = None
    begin: str | None = None


Entry = TypeVar("Entry", Case, Measurement)
_decode = msgspec.json.Decoder(Line).decode


class Report:
    """All an attempt has reported so far. `take` hands on what is new."""

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self.measurements: list[Measurement] = []
        self.truncated = False
        self.size = 0
        """Approximate bytes of what `take` would hand on."""
        self.entries = 0
        self.failed = 0
        self.fallen_back = 0
        self.first_failure = ""
        self.placement: Placement | None = None
        self.skip: str | None = None
        self.end: End | None = None
        self.bad_lines = 0
        self.begun = ""
        """The case that runs: it began, and nothing was reported since."""
        self.collected: list[Collected] = []
        self.done: set[str] | None = None
        """Ids of the reported cases, for runners that must know; set it to start."""
        self._rest = b""

    def cut(self) -> None:
        """The process that wrote is gone, maybe in mid-line; another one writes from here on."""
        self._rest = b""
        self.begun = ""
        self.end = None

    def feed(self, data: bytes) -> None:
        """More bytes of the report file. A line that is no report is counted and skipped."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > LINE_BYTES_MAX:
            self._rest = b""
            self.truncated = True
        for line in lines:
            if line:
                self.line(line)

    def line(self, data: bytes) -> None:
        try:
            line = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.bad_lines += 1
            return
        self._take(line)

    def tell(self, line: dict[str, Any]) -> None:
        """One line as the in-process runner hears it."""
        try:
            self._take(msgspec.convert(line, Line))
        except msgspec.ValidationError:
            self.bad_lines += 1

    def _take(self, line: Line) -> None:
        if line.begin is not None:
            self.begun = line.begin
        elif line.collected is not None:
            self.collected.append(line.collected)
        elif line.placement is not None:
            place = line.placement
            self.placement = Placement(
                requested=place.requested[:256],
                actual=place.actual[:256],
                detail=place.detail[:256],
            )
        elif line.skip is not None:
            self.skip = line.skip.reason[:4000]
        elif line.end is not None:
            self.end = line.end
        elif line.case is not None or line.measurement is not None:
            self.entries += 1
            if self.entries > ENTRIES_MAX:
                self.truncated = True
            if line.case is not None:
                self._case(line.case)
            elif line.measurement is not None:
                self._measurement(line.measurement)
        else:
            self.bad_lines += 1

    def _case(self, case: _Case) -> None:
        self._count(case.id, case.verdict, case.message)
        self.begun = ""
        if self.done is not None:
            self.done.add(case.id)
        if self.entries > ENTRIES_MAX:
            return
        if len(case.id) > 2048 or len(case.message) > 16384:
            self.truncated = True
        duration = case.duration_us
        self.cases.append(
            Case(
                id=case.id[:2048],
                verdict=case.verdict,
                duration_us=duration if duration is not None and 0 <= duration <= 2**53 else None,
                message=case.message[:16384],
                tries=min(max(case.tries, 1), 1000),
                # A view of the detail would keep all that was read with it in memory.
                detail=case.detail.copy() if len(case.detail) else ABSENT,
            )
        )
        self.size += _size(self.cases[-1])

    def _measurement(self, line: _Measurement) -> None:
        samples = line.samples
        if not isfinite(line.value) or not all(map(isfinite, samples or ())):
            self.bad_lines += 1
            return
        if self.entries > ENTRIES_MAX:
            return
        if len(line.name) > 256 or len(line.unit) > 64 or len(line.case or "") > 2048:
            self.truncated = True
        if samples is not None and len(samples) > SAMPLES_MAX:
            samples = samples[:SAMPLES_MAX]
            self.truncated = True
        self.measurements.append(
            Measurement(
                name=line.name[:256],
                value=line.value,
                unit=line.unit[:64],
                case=line.case[:2048] if line.case is not None else None,
                samples=samples,
            )
        )
        self.size += 22 * len(samples or ()) + 80

    def judge(self, cases: list[Case]) -> None:
        """Cases that only the end of a process told of count like reported ones."""
        for case in cases:
            self._count(case.id, case.verdict, case.message)
            if self.done is not None:
                self.done.add(case.id)

    def _count(self, name: str, verdict: Verdict, message: str) -> None:
        if verdict in (Verdict.FAILED, Verdict.ERROR, Verdict.TIMED_OUT):
            self.failed += 1
            self.first_failure = self.first_failure or f"{name[:256]}: {message[:1024]}"
        elif verdict is Verdict.FALLBACK:
            self.fallen_back += 1

    def take_collected(self) -> list[Collected]:
        """What was collected since the last time, in parts that fit an event each."""
        found, self.collected = self.collected, []
        return [part for each in found for part in _parts_of(each)]

    def take(self) -> list[tuple[list[Case], list[Measurement], bool]]:
        """What came in since the last time, in parts that fit an event each."""
        parts = []
        while self.cases or self.measurements or self.truncated:
            cases, measurements = _cut(self.cases), _cut(self.measurements)
            parts.append((cases, measurements, self.truncated))
            self.truncated = False
        self.size = 0
        return parts


def _parts_of(found: Collected) -> list[Collected]:
    """The line as events: many ids are told in several, each with its part of them."""
    ids = [name[:2048] for name in found.ids]
    parts: list[list[str]] = [[]]
    size = 0
    for name in ids:
        size += 4 * len(name)
        if size > EVENT_BYTES and parts[-1]:
            parts.append([])
            size = 4 * len(name)
        parts[-1].append(name)
    return [
        msgspec.structs.replace(found, file=found.file[:2048], digest=found.digest[:64], ids=part)
        for part in parts
    ]


def _cut(entries: list[Entry]) -> list[Entry]:
    """The first entries that fit an event together, at least one; they leave the list."""
    size = count = 0
    for entry in entries:
        size += _size(entry)
        if count and size > EVENT_BYTES:
            break
        count += 1
    part = entries[:count]
    del entries[:count]
    return part


def _size(entry: Case | Measurement) -> int:
    if isinstance(entry, Case):
        return 4 * len(entry.id) + len(entry.message) + len(entry.detail) + 80
    return len(entry.name) + 22 * len(entry.samples or ()) + 80
