"""Trusted callables in the agent's own interpreter. Rule: one thread runs them in turn; the loop
is never blocked by one.

Work goes over in batches and results come back in batches, at least every few milliseconds, so
that a short task costs no thread switch of its own. Whoever waits in line can be taken back; who
runs can not.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from ...core import report as reporting
from ...core.model import ABSENT, Cause, Output, Placement, Verdict
from ..attempt import Attempt, Ended
from .command import spec_refusal
from .outcome import judge_report
from .report import Report

HAND_OVER_NS = 2_000_000
"""Results wait at most this long for the next one."""
VALUE_BYTES_MAX = 64 * 1024
OUTPUT_MAX = 4096
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


Passed = tuple[Attempt, int, msgspec.Raw]
"""An attempt that passed and said nothing: its duration in microseconds, and its value."""


class Result(msgspec.Struct, frozen=True, gc=False):
    """What any other attempt ended as; `report` when it reported anything."""

    attempt: Attempt
    ended: Ended
    report: Report | None = None


class _Captured(io.TextIOBase):
    """Stands for stdout or stderr: the lane's thread writes into the task's output, others to the
    real stream.
    """

    def __init__(self, lane: InlineLane, real: Any) -> None:
        self._lane = lane
        self._real = real

    def write(self, text: str) -> int:
        if threading.get_ident() != self._lane.thread_id:
            return int(self._real.write(text))
        self._lane.print(text)
        return len(text)

    def flush(self) -> None:
        if self._real is not None:
            self._real.flush()

    def fileno(self) -> int:
        return int(self._real.fileno())


class InlineLane:
    """The thread and its line. `wake` is called from the thread when `results` has something; it
    must be thread-safe.

    `bundle_of(digest)` gives the unpacked folder of a bundle; the caller fetches it before `start`.
    """

    def __init__(
        self,
        wake: Callable[[], None],
        bundle_of: Callable[[str], Path | None] = lambda digest: None,
    ) -> None:
        self.results: deque[Result | Passed] = deque()
        self.current: Attempt | None = None
        self.current_since_ns = 0
        self.thread_id = 0
        self._wake = wake
        self._bundle_of = bundle_of
        self._line: deque[Attempt] = deque()
        self._gate = threading.Semaphore(0)
        self._asleep = False
        self._stopping = False
        self._calls: dict[tuple[str, str | None], Callable[..., Any] | Ended] = {}
        self._bundle: str | None = None
        self._modules: dict[str | None, dict[str, Any]] = {}
        self._report: Report | None = None
        self._printed: list[str] = []
        self._printed_bytes = 0
        self._thread: threading.Thread | None = None
        self._streams = (sys.stdout, sys.stderr)

    @property
    def idle(self) -> bool:
        """Nobody runs and nobody is in line."""
        return self._thread is None or (self._asleep and not self._line)

    # -- the loop's side --------------------------------------------------------------------------
    def start(self, attempts: Iterable[Attempt]) -> None:
        """The attempts are in line. The thread starts with the first of all."""
        self._line.extend(attempts)
        if self._thread is None:
            sys.stdout = _Captured(self, sys.stdout)
            sys.stderr = _Captured(self, sys.stderr)
            self._thread = threading.Thread(target=self._run, name="dtf-inline", daemon=True)
            self._thread.start()
        elif self._asleep:
            self._asleep = False
            self._gate.release()

    def take_back(self, attempt: Attempt) -> bool:
        """Whether the attempt left the line before its turn came."""
        with contextlib.suppress(ValueError):
            self._line.remove(attempt)
            return True
        return False

    def clear(self) -> None:
        """Nobody is in line; who runs, runs on."""
        self._line.clear()

    def stop(self, timeout_s: float = 1.0) -> bool:
        """The thread has ended; False when a task still holds it: it then dies with the process."""
        self._stopping = True
        self._line.clear()
        self._gate.release()
        sys.stdout, sys.stderr = self._streams
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    # -- the thread's side ------------------------------------------------------------------------
    def _run(self) -> None:
        self.thread_id = threading.get_ident()
        reporting.sink.set(self._reported)
        line, results = self._line, self.results
        before = handed = time.perf_counter_ns()
        while not self._stopping:
            try:
                attempt = line.popleft()
            except IndexError:
                if results:
                    self._wake()
                self._asleep = True
                if not line and not self._stopping:
                    self._gate.acquire()
                self._asleep = False
                before = handed = time.perf_counter_ns()
                continue
            self.current_since_ns = before
            self.current = attempt
            result = self._execute(attempt, before)
            self.current = None
            results.append(result)
            before = time.perf_counter_ns()
            if before - handed > HAND_OVER_NS:
                handed = before
                self._wake()

    def _execute(self, attempt: Attempt, began: int) -> Result | Passed:
        spec = attempt.spec
        call = self._calls.get((spec.target, spec.bundle))
        if call is None or spec.bundle != self._bundle:
            call = self._load(attempt)
        if isinstance(call, Ended):
            return Result(attempt, call)
        value: msgspec.Raw = ABSENT
        problem = message = ""
        try:
            if attempt.params is ABSENT:
                reporting.task_params.set({})
                returned = call()
            else:
                params = _decode(attempt.params)
                reporting.task_params.set(params)
                returned = call(**params)
            if returned is not None:
                value, message = encode_value(returned)
        except SystemExit as error:
            problem = "" if error.code in (None, 0) else f"exit status {error.code}"
        except BaseException as error:  # the boundary of the task: whatever it raised is its result
            problem = describe(error)
        duration_us = (time.perf_counter_ns() - began) // 1000
        if not (problem or message or self._report or self._printed):
            return attempt, duration_us, value
        return self._eventful(attempt, duration_us, value, problem, message)

    def _eventful(
        self, attempt: Attempt, duration_us: int, value: msgspec.Raw, problem: str, message: str
    ) -> Result:
        """The result of a task that failed, printed or reported."""
        report, self._report = self._report, None
        verdict, cause, text = judge_report(attempt.spec, report or Report(), problem)
        placement: Placement | None = report.placement if report else None
        ended = Ended(
            verdict=verdict,
            cause=cause,
            duration_us=duration_us,
            message="; ".join(part for part in (text, message) if part)[:4096],
            value=value,
            placement=placement,
            output=self._take_output(),
        )
        return Result(attempt, ended, report)

    def _load(self, attempt: Attempt) -> Callable[..., Any] | Ended:
        """The callable of a task, imported from its bundle first; or why there is none."""
        spec = attempt.spec
        key = (spec.target, spec.bundle)
        self._activate(spec.bundle)
        if key in self._calls:
            return self._calls[key]
        refusal = spec_refusal(spec)
        call: Callable[..., Any] | Ended = (
            config_error(refusal) if refusal else import_target(spec.target)
        )
        self._calls[key] = call
        return call

    def _activate(self, bundle: str | None) -> None:
        """Imports see this bundle's folder first, and no module of another bundle."""
        if bundle == self._bundle:
            return
        old = self._bundle_of(self._bundle) if self._bundle else None
        if old is not None:
            mine = {n: m for n, m in sys.modules.items() if _lies_in(m, old)}
            self._modules[self._bundle] = mine
            for name in mine:
                del sys.modules[name]
            with contextlib.suppress(ValueError):
                sys.path.remove(str(old))
        new = self._bundle_of(bundle) if bundle else None
        if new is not None:
            sys.path.insert(0, str(new))
            importlib.invalidate_caches()
            sys.modules.update(self._modules.get(bundle, {}))
        self._bundle = bundle

    def _reported(self, line: dict[str, Any]) -> None:
        if self._report is None:
            self._report = Report()
        self._report.tell(line)

    def print(self, text: str) -> None:
        """Output of the task that runs now; only the tail is kept."""
        self._printed.append(text)
        self._printed_bytes += len(text.encode("utf-8", "replace"))
        if len(self._printed) > 1000:
            self._printed = ["".join(self._printed)[-OUTPUT_MAX:]]

    def _take_output(self) -> Output | None:
        if not self._printed:
            return None
        text = "".join(self._printed)
        tail = text.encode("utf-8", "replace")[-OUTPUT_MAX:].decode("utf-8", "ignore")
        size, self._printed, self._printed_bytes = self._printed_bytes, [], 0
        return Output(bytes=size, truncated=size > len(tail.encode()), tail=tail)


def import_target(target: str) -> Callable[..., Any] | Ended:
    """The callable "module:name", or how a task that asks for it ends."""
    name, _, attribute = target.partition(":")
    try:
        found: Any = importlib.import_module(name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        if not str(error).startswith("No module named"):
            return config_error(f"{target!r}: {error}")  # the module says itself what to install
        return config_error(
            f"{target!r} cannot be imported: no module named {error.name!r}; "
            f"add it to the bundle, or install it into {sys.executable}"
        )
    except AttributeError:
        return config_error(f"module {name!r} has no {attribute!r}")
    except BaseException as error:  # a module runs code when it is imported
        return config_error(f"{target!r} cannot be imported: {describe(error)}")
    if not callable(found):
        return config_error(f"{target!r} is a {type(found).__name__}, not a callable")
    call: Callable[..., Any] = found
    return call


def config_error(message: str) -> Ended:
    return Ended(verdict=Verdict.ERROR, cause=Cause.CONFIG, duration_us=0, message=message[:4096])


def encode_value(value: object) -> tuple[msgspec.Raw, str]:
    """A returned value as JSON, or nothing and the reason."""
    try:
        data = _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return ABSENT, f"the returned {type(value).__name__} was left out: {error}"
    if len(data) > VALUE_BYTES_MAX:
        text = f"the returned value was left out: {len(data)} bytes, more than {VALUE_BYTES_MAX}"
        return ABSENT, text
    return msgspec.Raw(data), ""


def describe(error: BaseException) -> str:
    """The exception in one line, then the last part of its traceback."""
    last = "".join(traceback.format_exception_only(type(error), error)).strip()
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    whole = "".join(traceback.format_tb(frames))
    return f"{last}\n{whole[-2500:]}"[:4000]


def _lies_in(module: Any, folder: Path) -> bool:
    path = getattr(module, "__file__", None)
    return isinstance(path, str) and path.startswith(f"{folder}/")
