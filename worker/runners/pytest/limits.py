"""Marker words and time limits of a case. Rule: a case that is cut is reported as timed out, with
the stacks of that moment, before its process ends.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from typing import Any

from .cases import CaseKey, place_of
from .host import Host
from .watchdog import Watchdog
from .wire import encode
from .writing import ReportFile, high_copy


def marker_words(item: Any) -> tuple[int, float | None]:
    """Retries and time limit (seconds) of `@pytest.mark.dtf(...)`; (0, None) without. A value that
    is no number counts as absent: the client refuses those when it reads the suite.
    """
    marker = item.get_closest_marker("dtf")
    if marker is None:
        return 0, None
    retries = limit_s = None
    for found in item.iter_markers("dtf"):  # the closest one that says it
        retries = found.kwargs.get("retries") if retries is None else retries
        limit_s = found.kwargs.get("timeout") if limit_s is None else limit_s
    return int(_number(retries) or 0), _number(limit_s)


def _number(value: Any) -> float | None:
    with contextlib.suppress(TypeError, ValueError):
        number = float(value)
        return number if number > 0 else None
    return None


class Limits:
    """Arms the watchdog around the cases that have a limit."""

    def __init__(self, host: Host, report: ReportFile, limit_s: Any) -> None:
        self._host = host
        self._report = report
        self._limit_s = _number(limit_s)
        self._watchdog: Watchdog | None = None
        self._armed = False
        self._key: CaseKey | None = None

    def begin(self, key: CaseKey, limit_s: float | None) -> None:
        limit_s = limit_s or self._limit_s
        if limit_s is None:
            return
        if self._watchdog is None:
            config = self._host.config
            with contextlib.suppress(ValueError, KeyError):
                theirs = float(config.getini("faulthandler_timeout") or 0)
                self._watchdog = Watchdog(_stderr(), self._expired, hard=theirs <= 0)
            if self._watchdog is None:
                self._watchdog = Watchdog(_stderr(), self._expired, hard=True)
        self._key, self._armed = key, True
        self._report.write(encode({"begin": key.id, "timeout_s": limit_s}))
        self._watchdog.arm(limit_s)

    def finish(self) -> None:
        if self._armed and self._watchdog is not None:
            self._watchdog.disarm()
            self._armed = False

    def _expired(self, limit_s: float) -> None:
        """In the watchdog's thread; the process ends after it."""
        key = self._key
        if key is None:
            return
        message = f"timed out: still running after {limit_s:g} s"
        item = key.item
        location = item.location
        report = {
            "$report_type": "TestReport",
            "nodeid": item.nodeid,
            "location": list(location),
            "keywords": {},
            "outcome": "failed",
            "longrepr": f"{message}\n\n{_stacks()}",
            "when": "call",
            "sections": self._printed(),
            "user_properties": [],
            "duration": limit_s,
            "start": 0,
            "stop": 0,
        }
        detail: dict[str, Any] = {"t": [None, int(limit_s * 1e6), None]}
        detail |= place_of(item.nodeid, location)
        detail["reports"] = [report]
        case = {"id": key.id, "verdict": "timed_out", "duration_us": int(limit_s * 1e6)}
        self._report.write(encode({"case": {**case, "message": message, "detail": detail}}))

    def _printed(self) -> list[list[str]]:
        """What the case had printed so far, as far as that can be had from another thread."""
        sections = []
        with contextlib.suppress(Exception):
            capture = self._host.config.pluginmanager.get_plugin("capturemanager")
            out, err = capture.read_global_capture()
            if out:
                sections.append(["Captured stdout call", out])
            if err:
                sections.append(["Captured stderr call", err])
        return sections


def _stacks() -> str:
    parts = []
    for ident, frame in sys._current_frames().items():
        lines = traceback.format_stack(frame)
        lines = [line for line in lines if "/_pytest/" not in line and "/pluggy/" not in line]
        if any(__file__ in line for line in lines):
            continue  # the watchdog itself
        parts.append(f"Thread {ident:#x} (most recent call last):\n{''.join(lines[-60:])}")
    return "\n".join(parts)


def _stderr() -> int:
    try:
        return high_copy(2)
    except OSError:
        import os

        return os.open(os.devnull, os.O_WRONLY)
