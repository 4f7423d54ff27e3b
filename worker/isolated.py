"""One attempt in a process of its own, from assignment to last event. Rule: whatever fails here
ends this attempt, told.

The usual short task passes through without an await: ordered, ended, judged, finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ..core.errors import DtfError
from ..core.model import Cause, Output, Usage, Verdict
from .artifacts import collect, put_file, store
from .attempt import Attempt, Ended
from .bundles import folder_size
from .live import LiveText
from .machine import Machine
from .processes import Facts, Listener, Order
from .report_file import ReportFile
from .runners.command import (
    BadTask,
    command_line,
    output_path,
    parameters,
    report_path,
    source_folder,
    spec_refusal,
    task_environment,
)
from .runners.outcome import Outcome, judge_process, judge_refusal
from .runners.python import python_line, python_warm

if TYPE_CHECKING:
    from .workshop import Workshop

WHOLE_OUTPUT_MAX = 3072
"""Shorter output travels whole in the tail and needs no blob."""
LOOK_BYTES = 4 * 1024 * 1024
"""Most of a report that is read in one go while the task runs."""
POLL_S = 0.25
SCRATCH_CHECK_S = 2.0
NO_FILE = ReportFile("")
CANCELLED = Outcome(Verdict.CANCELLED, Cause.CANCELLED, "cancelled")


class Isolated(Listener):
    """The attempt with number `key` of its agent."""

    def __init__(self, shop: Workshop, machine: Machine, attempt: Attempt, key: int) -> None:
        self.shop = shop
        self.machine = machine
        self.attempt = attempt
        self.key = key
        self.scratch = ""
        """Its directory, from launch to end."""
        self.notes: list[str] = []
        self.limit = ""
        """A limit this side enforces, once it was passed."""
        self._bundle: Path | None = None
        self._holds_bundle = False
        self._fetch: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._report = NO_FILE
        self._live: LiveText | None = None
        self._measuring = False
        self._measured_at = 0.0
        self._dirty = False
        """Something lies in or beside its directory."""

    # -- the way to its process -------------------------------------------------------------------
    def begin(self) -> None:
        refusal = spec_refusal(self.attempt.spec)
        if refusal:
            self._end(Outcome(Verdict.ERROR, Cause.CONFIG, refusal))
        elif self.attempt.spec.bundle is None:
            self._launch()
        else:
            self._bundle = self.shop.bundles.take_now(self.attempt.spec.bundle)
            self._holds_bundle = self._bundle is not None
            if self._holds_bundle:
                self._launch()
            else:
                work = self._fetch_bundle(self.attempt.spec.bundle)
                self._fetch = self.shop.spawn(work, f"bundle for {self.attempt.token}")

    async def _fetch_bundle(self, digest: str) -> None:
        """The attempt's code is here, or the attempt is over."""
        try:
            self._bundle = await self.shop.bundles.take_patiently(digest)
        except (DtfError, OSError) as error:
            self._end(Outcome(Verdict.ERROR, Cause.SETUP, f"bundle {digest}: {error}"))
            return
        self._holds_bundle = True
        self._fetch = None
        self._launch()

    def _launch(self) -> None:
        try:
            self.scratch = self.shop.area.take()
            self._report = ReportFile(report_path(self.scratch))
            order = self._order()
        except BadTask as error:
            self._end(Outcome(Verdict.ERROR, Cause.CONFIG, str(error)))
            return
        except OSError as error:
            text = f"no scratch directory could be made: {error}"
            self._end(Outcome(Verdict.ERROR, Cause.SETUP, text))
            return
        self.shop.processes.run(self.key, order, self)

    def _order(self) -> Order:
        attempt, spec, scratch = self.attempt, self.attempt.spec, self.scratch
        params = parameters(attempt)
        folder = spec.directory or source_folder(self._bundle, scratch)
        bundle = str(self._bundle) if self._bundle is not None else ""
        argv = python_line(attempt) if spec.runner == "python" else command_line(attempt, params)
        env = task_environment(attempt, params, scratch, bundle, self.shop.devices)
        code = spec.directory or bundle
        assert attempt.slot is not None
        return Order(
            slot=attempt.slot.number,
            argv=argv,
            warm=python_warm(spec, env, code) if spec.runner == "python" else None,
            env=env,
            marker=f"{self.shop.area.name}.{self.key}",
            cwd=folder,
            scratch=scratch,
            output_path=output_path(scratch),
            output_max=self.shop.options.output_bytes_max,
            wall_ns=spec.wall_ms * 1_000_000,
            silence_ns=(spec.silence_ms or 0) * 1_000_000,
            grace_ns=spec.grace_ms * 1_000_000,
            memory_bytes=spec.require.memory_bytes,
        )

    def kill(self, *, soft: bool) -> None:
        if self._fetch is not None:
            self._fetch.cancel()
            self._fetch = None
            self._end(CANCELLED)
        else:
            self.shop.processes.kill(self.key, soft=soft)

    # -- while it runs ----------------------------------------------------------------------------
    def on_started(self, pid: int) -> None:
        self.machine.announce(self.attempt)
        self._timer = asyncio.get_running_loop().call_later(POLL_S, self._look)
        self.shop.told()

    def on_output(self, data: bytes, dropped: int) -> None:
        if self._live is None:
            attempt = self.attempt
            subject = self.shop.subjects.output(attempt.run, attempt.task, attempt.number)
            self._live = LiveText(self.shop.output, subject)
        self._live.add(data, dropped)

    def _look(self) -> None:
        """From time to time: what was reported goes out, and the scratch directory is measured."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(POLL_S, self._look)
        if self._report.read(LOOK_BYTES):
            self._publish_report()
            self.shop.told()
        now = loop.time()
        if not self._measuring and now - self._measured_at > SCRATCH_CHECK_S:
            self._measuring, self._measured_at = True, now
            self.shop.spawn(self._measure_scratch(), "measure scratch")

    async def _measure_scratch(self) -> None:
        most = self.shop.options.scratch_bytes_max
        size = await asyncio.to_thread(scratch_size, self.scratch, most)
        self._measuring = False
        if size > most and not self.limit:
            self.limit = "scratch"
            self.notes.append(f"more than {most} bytes in DTF_SCRATCH")
            self.shop.processes.kill(self.key, soft=True)

    def _publish_report(self) -> None:
        for cases, measurements, truncated in self._report.report.take():
            self.machine.report(self.attempt, cases, measurements, truncated)

    # -- the end ----------------------------------------------------------------------------------
    def on_refused(self, stage: str, text: str) -> None:
        self._end(CANCELLED if self.attempt.cancelled else judge_refusal(stage, text))

    def on_returned(self) -> None:
        """Its turn did not come: nothing of it is left here."""
        self._let_go()
        self.shop.gone(self.attempt)
        self.machine.returned(self.attempt)
        self.shop.told()

    def on_done(self, facts: Facts) -> None:
        """The process is gone: judge, keep what must be kept, finish."""
        self._hear()
        self._conclude(facts)

    def _hear(self) -> None:
        """All that was reported is told."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._report.read()
        self._publish_report()

    def _conclude(self, facts: Facts) -> None:
        """Nothing of the attempt runs any more."""
        if not self._report.close():
            self._dirty = True
        if self._live is not None:
            self._live.end()
        self._note(facts)
        whole = not facts.stored and len(facts.head) <= WHOLE_OUTPUT_MAX and is_utf8(facts.head)
        keep = bool(self.attempt.spec.artifacts)
        if (whole and not keep) or self._abandoned():
            self._finish(facts, None)
        else:
            self.shop.spawn(self._keep(facts, whole), f"keep {self.attempt.token}")

    def _abandoned(self) -> bool:
        """Nobody will hear of this attempt: its incarnation is over."""
        return self.attempt.token not in self.machine.attempts

    async def _keep(self, facts: Facts, whole: bool) -> None:
        """Artifacts and long output are in the blob store, as far as that is possible."""
        shop, attempt = self.shop, self.attempt

        def stopping() -> bool:
            return shop.stopping or self._abandoned()

        if attempt.spec.artifacts:
            options = shop.options
            collected = await asyncio.to_thread(
                collect,
                Path(self.scratch),
                attempt.spec.artifacts,
                options.artifact_files_max,
                options.artifact_bytes_max,
            )
            await store(
                shop.blobs,
                collected,
                lambda found, digest: self.machine.artifact(
                    attempt, found.path, digest, found.bytes
                ),
                stopping,
            )
            self.notes += collected.notes
        digest = None
        if not whole:
            if not facts.stored:
                self._write_output(facts.head)
            file = Path(output_path(self.scratch))
            result = await put_file(shop.blobs, file, stopping)
            if isinstance(result, str):
                digest = result
            else:
                self.notes.append(f"the output could not be stored: {result}")
        self._finish(facts, digest)

    def _write_output(self, data: bytes) -> None:
        try:
            Path(output_path(self.scratch)).write_bytes(data)
        except OSError as error:
            self.notes.append(f"the output could not be written: {error}")
        self._dirty = True

    def _note(self, facts: Facts) -> None:
        """What the message says beside the outcome."""
        if facts.left:
            self.notes.append(f"{facts.left} processes it left behind were killed")
        if facts.alive:
            self.notes.append(f"{facts.alive} processes could not be killed")
        if facts.store_error:
            self.notes.append(f"output could not be stored whole: {facts.store_error}")
        if facts.note and facts.start != "became":
            self.notes.append(facts.note)
        report = self._report.report
        if report.bad_lines:
            self.notes.append(f"{report.bad_lines} report lines were not understood")
        if report.end is not None and report.end.status == "returned":
            self.notes.append(report.end.message)

    def _finish(self, facts: Facts, digest: str | None) -> None:
        if self.limit and facts.why == "killed":
            facts = msgspec.structs.replace(facts, why=self.limit)
        report = self._report.report
        stored = facts.stored or len(facts.head)
        ended = {
            "duration_us": facts.duration_us,
            "exit_code": facts.code,
            "usage": Usage(cpu_us=facts.cpu_us, peak_rss_bytes=facts.peak_rss or None),
            "placement": report.placement,
            "output": Output(
                digest=digest,
                bytes=facts.output_bytes,
                truncated=stored < facts.output_bytes,
                tail=tail_text(facts.tail),
            ),
        }
        value = self._value()
        if value is not None:
            ended["value"] = value
        if facts.scratch_left or facts.alive or facts.stored or digest is not None:
            self._dirty = True
        self._end(self._judge(facts), **ended)

    def _value(self) -> msgspec.Raw | None:
        """What the attempt returns, as JSON."""
        end = self._report.report.end
        return end.value if end is not None and len(end.value) else None

    def _judge(self, facts: Facts) -> Outcome:
        return judge_process(self.attempt.spec, facts, self._report.report)

    def _end(self, outcome: Outcome, **fields: Any) -> None:
        """The machine knows; nothing of the attempt is left here."""
        message = "; ".join(part for part in (outcome.message, *self.notes) if part)[:4096]
        fields.setdefault("duration_us", 0)
        ended = Ended(verdict=outcome.verdict, cause=outcome.cause, message=message, **fields)
        self._let_go()
        self.shop.gone(self.attempt)
        self.machine.finish_all([(self.attempt, ended)])
        self.shop.told()

    def _let_go(self) -> None:
        if self._holds_bundle and self.attempt.spec.bundle is not None:
            self.shop.bundles.give_back(self.attempt.spec.bundle)
        if self.scratch:
            self.shop.area.give_back(self.scratch, clean=not self._dirty)


def scratch_size(scratch: str, stop_at: int) -> int:
    """Bytes an attempt has written into its directory and its report."""
    size = folder_size(scratch, stop_at)
    with contextlib.suppress(OSError):
        size += os.lstat(report_path(scratch)).st_size
    return size


def is_utf8(data: bytes) -> bool:
    """Whether the text of `data` says all there is in it."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def tail_text(tail: bytes) -> str:
    """The end of the output as text: whole characters, at most 4 KiB; bytes that are no text
    become U+FFFD.
    """
    start = 0
    while start < min(4, len(tail)) and tail[start] & 0xC0 == 0x80:  # cut inside a character
        start += 1
    return tail[start:].decode("utf-8", "replace")
