"""What a test reports about itself, read and bounded. Rule: nothing a test writes can break an
event or the agent.

The lines are those of `core/report.py`, one JSON object each, plus {"end": ...} written by our
own child program.
"""

from __future__ import annotations

from math import isfinite
from typing import Any, Literal, TypeVar

import msgspec

from ...core.model import Case, Measurement, Placement, Verdict

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


class _Placement(msgspec.Struct):
    requested: str
    actual: str
    detail: str = ""


class _Skip(msgspec.Struct):
    reason: str = ""


class End(msgspec.Struct):
    """What our child program says last: how the callable or script ended."""

    status: Literal["returned", "raised", "exited", "config"]
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
        self._rest = b""

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
        if line.placement is not None:
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
        if case.verdict in (Verdict.FAILED, Verdict.ERROR, Verdict.TIMED_OUT):
            self.failed += 1
            self.first_failure = self.first_failure or f"{case.id[:256]}: {case.message[:1024]}"
        elif case.verdict is Verdict.FALLBACK:
            self.fallen_back += 1
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
            )
        )
        self.size += len(case.id) + len(case.message) + 80

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

    def take(self) -> list[tuple[list[Case], list[Measurement], bool]]:
        """What came in since the last time, in parts that fit an event each."""
        parts = []
        while self.cases or self.measurements or self.truncated:
            cases, measurements = _cut(self.cases), _cut(self.measurements)
            parts.append((cases, measurements, self.truncated))
            self.truncated = False
        self.size = 0
        return parts


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
        return 4 * len(entry.id) + len(entry.message) + 80
    return len(entry.name) + 22 * len(entry.samples or ()) + 80
