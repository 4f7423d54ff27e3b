"""Attempts in processes of their own, from assignment to last event. Rule: whatever fails here
ends one attempt, told.

`Workshop` holds what they share; `Isolated` is one attempt. The usual short task passes through
without an await: ordered, ended, judged, finished.
"""

from __future__ import annotations

import asyncio
import codecs
import logging
import os
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..core.codec import encode_batch
from ..core.errors import BlobCorrupt, BlobMissing, DtfError, LogUnavailable
from ..core.events import OutputChunk
from ..core.ids import random_id
from ..core.model import Cause, Device, Output, Usage, Verdict
from ..core.ports import Appended, BlobStore, EventLog
from ..core.subjects import Subjects
from .artifacts import collect, put_file, store
from .attempt import Attempt, Ended
from .bundles import BundleCache, folder_size
from .machine import Machine
from .options import WorkerOptions
from .processes import Facts, Listener, Order, Processes
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
from .runners.python import python_line
from .runners.report import Report
from .scratch import ScratchArea

log = logging.getLogger("dtf.worker")
INLINE_OUTPUT_MAX = 3072
"""Shorter output travels whole in the tail and needs no blob."""
POLL_S = 0.25
SCRATCH_CHECK_S = 2.0
LIVE_INFLIGHT_MAX = 256
"""Output chunks without an answer, above which more are dropped: live output never waits for the
broker.
"""
RETRY_S = 1.0
DECODER = codecs.getincrementaldecoder("utf-8")


class Workshop:
    """Runs isolated attempts. `told` is called whenever a machine has new instructions."""

    def __init__(
        self,
        options: WorkerOptions,
        subjects: Subjects,
        processes: Processes,
        blobs: BlobStore,
        output: EventLog,
        bundles: BundleCache,
        devices: Mapping[str, Device],
        told: Callable[[], None],
    ) -> None:
        self.options = options
        self.subjects = subjects
        self.processes = processes
        self.blobs = blobs
        self.output = output
        self.bundles = bundles
        self.devices = devices
        self.told = told
        self.stopping = False
        self.area = ScratchArea(options.data_dir / "attempts", self._in_thread)
        self.live_inflight = 0
        self._attempts: dict[str, Isolated] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._keys = 0

    async def close(self) -> None:
        """Nothing of ours is left in the file system. Attempts must have ended before."""
        self.stopping = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.to_thread(self.area.close)

    def start(self, machine: Machine, attempt: Attempt) -> None:
        """The attempt is on its way; its end is told to `machine` exactly once."""
        self._keys += 1
        isolated = Isolated(self, machine, attempt, self._keys)
        self._attempts[attempt.token] = isolated
        isolated.begin()

    def kill(self, attempt: Attempt, *, soft: bool = True) -> None:
        """The attempt ends soon. Unknown or ended: no effect."""
        isolated = self._attempts.get(attempt.token)
        if isolated is not None:
            isolated.kill(soft=soft)

    def take_back(self, attempt: Attempt) -> None:
        """The attempt is given back if its process has not begun."""
        isolated = self._attempts.get(attempt.token)
        if isolated is not None:
            self.processes.drop(isolated.key)

    async def kill_all(self) -> None:
        """No process of any attempt lives."""
        for isolated in list(self._attempts.values()):
            isolated.kill(soft=False)
        await self.processes.gone()

    def gone(self, attempt: Attempt) -> None:
        """Nothing of the attempt is here any more."""
        self._attempts.pop(attempt.token, None)

    def _in_thread(self, work: Callable[[], None], name: str) -> None:
        self.spawn(asyncio.to_thread(work), name)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """A task that `close` waits for."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def send_live(self, subject: str, chunk: OutputChunk) -> bool:
        """The chunk is sent, or False when the broker is too slow for it."""
        if self.live_inflight >= LIVE_INFLIGHT_MAX:
            return False
        self.live_inflight += 1
        self.output.append_soon(subject, encode_batch([chunk]), random_id(26), self._live_answered)
        return True

    def _live_answered(self, result: Appended | Exception) -> None:
        self.live_inflight -= 1


class Isolated(Listener):
    """One attempt in a process of its own."""

    def __init__(self, shop: Workshop, machine: Machine, attempt: Attempt, key: int) -> None:
        self.shop = shop
        self.machine = machine
        self.attempt = attempt
        self.key = key
        self.scratch = ""
        """Its directory, from launch to end."""
        self.report = Report()
        self.notes: list[str] = []
        self.limit = ""
        """A limit this side enforces, once it was passed."""
        self._bundle: Path | None = None
        self._holds_bundle = False
        self._fetch: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._report_file: int | None = None
        self._chunks = 0
        self._decoder = DECODER("replace")
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
            name = f"bundle for {self.attempt.token}"
            self._fetch = self.shop.spawn(self._fetch_bundle(self.attempt.spec.bundle), name)

    async def _fetch_bundle(self, digest: str) -> None:
        """The attempt's code is here, or the attempt is over."""
        while not self.attempt.cancelled:
            try:
                self._bundle = await self.shop.bundles.take(digest)
            except LogUnavailable:
                if self.shop.stopping:
                    return
                await asyncio.sleep(RETRY_S)
                continue
            except (BlobMissing, BlobCorrupt) as error:
                self._end(Outcome(Verdict.ERROR, Cause.SETUP, f"bundle: {error}"))
                return
            except (DtfError, OSError) as error:
                text = f"bundle {digest} could not be unpacked: {error}"
                self._end(Outcome(Verdict.ERROR, Cause.SETUP, text))
                return
            self._holds_bundle = True
            break
        self._fetch = None
        if self.attempt.cancelled:
            self._end(Outcome(Verdict.CANCELLED, Cause.CANCELLED, "cancelled"))
        else:
            self._launch()

    def _launch(self) -> None:
        try:
            self.scratch = self.shop.area.take()
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
        folder = source_folder(self._bundle, scratch)
        bundle = str(self._bundle) if self._bundle is not None else ""
        argv = python_line(attempt) if spec.runner == "python" else command_line(attempt, params)
        assert attempt.slot is not None
        return Order(
            slot=attempt.slot.number,
            argv=argv,
            env=task_environment(attempt, params, scratch, bundle, self.shop.devices),
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
            self._end(Outcome(Verdict.CANCELLED, Cause.CANCELLED, "cancelled"))
        else:
            self.shop.processes.kill(self.key, soft=soft)

    # -- while it runs ----------------------------------------------------------------------------
    def on_started(self, pid: int) -> None:
        self.machine.announce(self.attempt)
        self._timer = asyncio.get_running_loop().call_later(POLL_S, self._look)
        self.shop.told()

    def on_output(self, data: bytes, dropped: int) -> None:
        text = self._decoder.decode(data)
        if dropped:
            text += f"\n[dtf: {dropped} bytes are not shown here; the stored output has them]\n"
        self._send_chunk(text)

    def _send_chunk(self, text: str, *, last: bool = False) -> None:
        attempt = self.attempt
        subject = self.shop.subjects.output(attempt.run, attempt.task, attempt.number)
        if self.shop.send_live(subject, OutputChunk(n=self._chunks, text=text, last=last)):
            self._chunks += 1

    def _look(self) -> None:
        """From time to time: what was reported goes out, and the scratch directory is measured."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(POLL_S, self._look)
        if self._read_report():
            self._publish_report()
            self.shop.told()
        now = loop.time()
        if not self._measuring and now - self._measured_at > SCRATCH_CHECK_S:
            self._measuring, self._measured_at = True, now
            self.shop.spawn(self._measure_scratch(), "measure scratch")

    async def _measure_scratch(self) -> None:
        most = self.shop.options.scratch_bytes_max
        size = await asyncio.to_thread(folder_size, self.scratch, most)
        self._measuring = False
        if size > most and not self.limit:
            self.limit = "scratch"
            self.notes.append(f"more than {most} bytes in DTF_SCRATCH")
            self.shop.processes.kill(self.key, soft=True)

    def _read_report(self) -> bool:
        """Whether the report file had more. It is kept open from its first line to the end."""
        if self._report_file is None:
            if not os.access(report_path(self.scratch), os.F_OK):
                return False
            try:
                self._report_file = os.open(
                    report_path(self.scratch), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
                )
            except OSError:  # it is no file
                self._dirty = True
                return False
        found = False
        while data := os.read(self._report_file, 1 << 20):
            self.report.feed(data)
            found = True
            if self.report.size > 1 << 20:
                self._publish_report()
        return found

    def _publish_report(self) -> None:
        for cases, measurements, truncated in self.report.take():
            self.machine.report(self.attempt, cases, measurements, truncated)

    # -- the end ----------------------------------------------------------------------------------
    def on_refused(self, stage: str, text: str) -> None:
        if self.attempt.cancelled:
            self._end(Outcome(Verdict.CANCELLED, Cause.CANCELLED, "cancelled"))
        else:
            self._end(judge_refusal(stage, text))

    def on_returned(self) -> None:
        """Its turn did not come: nothing of it is left here."""
        self._let_go()
        self.shop.gone(self.attempt)
        self.machine.returned(self.attempt)
        self.shop.told()

    def on_done(self, facts: Facts) -> None:
        """The process is gone: judge, keep what must be kept, finish."""
        if self._timer is not None:
            self._timer.cancel()
        if self._read_report() or self.report.bad_lines:
            if self.report.bad_lines:
                self.notes.append(f"{self.report.bad_lines} report lines were not understood")
            self._publish_report()
        if self._report_file is not None:
            os.close(self._report_file)
            os.unlink(report_path(self.scratch))
        if self._chunks:
            self._send_chunk(self._decoder.decode(b"", True), last=True)
        self._note(facts)
        whole = not facts.stored and len(facts.head) <= INLINE_OUTPUT_MAX and is_utf8(facts.head)
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
        if self.report.end is not None and self.report.end.status == "returned":
            self.notes.append(self.report.end.message)

    def _finish(self, facts: Facts, digest: str | None) -> None:
        if self.limit and facts.why == "killed":
            facts = msgspec.structs.replace(facts, why=self.limit)
        end = self.report.end
        stored = facts.stored or len(facts.head)
        ended = {
            "duration_us": facts.duration_us,
            "exit_code": facts.code,
            "usage": Usage(cpu_us=facts.cpu_us, peak_rss_bytes=facts.peak_rss or None),
            "placement": self.report.placement,
            "output": Output(
                digest=digest,
                bytes=facts.output_bytes,
                truncated=stored < facts.output_bytes,
                tail=tail_text(facts.tail),
            ),
        }
        if end is not None and len(end.value):
            ended["value"] = end.value
        if facts.scratch_left or facts.alive or facts.stored or digest is not None:
            self._dirty = True
        self._end(judge_process(self.attempt.spec, facts, self.report), **ended)

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
