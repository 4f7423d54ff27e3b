"""An attempt of runner `pytest`: a shard of a suite, in as many processes as it takes. Rule: which
process is next, `Shard` decides; this starts them and puts their outputs and figures together.
"""

from __future__ import annotations

import os
import posixpath
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from ..core.model import Cause, Verdict
from .isolated import Isolated, tail_text
from .processes import Facts, Order
from .runners.command import BadTask, output_path, parameters
from .runners.outcome import Outcome, judge_report, limit_outcome, signal_name
from .runners.shard import Shard, Work

PREPARE_FAILED = 70
"""Exit status of a process whose session could not be set up (`worker/warm/work.py`)."""
WARM = str(Path(__file__).resolve().parent / "warm" / "__main__.py")
TAIL_BYTES = 4096


class PytestAttempt(Isolated):
    """One shard on this worker."""

    _shard: Shard
    _total: Facts | None = None
    """Figures of the processes that ended, together."""
    _saved = 0
    """Bytes of output kept from processes that ended."""

    def _order(self) -> Order:
        if not hasattr(self, "_shard"):
            self._shard = Shard(self._parameters())
            self._report.report.done = set()
        work = self._shard.work
        assert work is not None
        return self._process(work)

    def _parameters(self) -> dict[str, Any]:
        params = parameters(self.attempt)
        files = params.get("files", [])
        if not isinstance(files, list) or not all(
            isinstance(file, dict) and isinstance(file.get("path"), str) for file in files
        ):
            raise BadTask(f"'files' of a pytest task is a list of objects with 'path': {files!r}")
        if not files and not params.get("close"):
            raise BadTask("a pytest task needs 'files', the test files to run, or 'close'")
        return params

    def _process(self, work: Work) -> Order:
        """How the next process of the shard is started, or the one that waits is given work."""
        spec, params = self.attempt.spec, self._shard.params
        order = super()._order()
        folder = os.path.normpath(posixpath.join(order.cwd, str(params.get("cwd") or "")))
        if not os.path.isdir(folder):
            raise BadTask(f"there is no directory {folder} on this worker")
        chain = self._chain(folder, order.env)
        alone = work.fresh or spec.isolation != "none"
        host = "" if alone else f"{self.attempt.run}/{chain[-1]['id']}"
        payload = {
            "kind": "pytest",
            "args": spec.args,
            "isolation": spec.isolation,
            "hardware": spec.require.hardware,
            "memory_bytes": spec.require.memory_bytes,
            "host": host,
            **work.params,
        }
        if work.fresh or params.get("close"):
            payload.pop("budget_ms", None)
        return msgspec.structs.replace(
            order,
            argv=[],  # the plain way, too, is the program of the chain
            cwd=folder,
            warm={"chain": chain, "host": host, "start": spec.start, "work": payload},
        )

    def _chain(self, folder: str, env: dict[str, str]) -> list[dict[str, Any]]:
        """The warm parents: pytest imported, then the suite's session with its conftests."""
        spec, params = self.attempt.spec, self._shard.params
        python = spec.python or sys.executable
        own = {name: text for name, text in env.items() if not name.startswith("DTF_")}
        base = {
            "id": identity("pytest", python, own, spec.preload),
            "argv": [python, "-P", WARM],
            "env": own,
            "cwd": folder,
            "prepare": {"kind": "import", "modules": ["pytest", *spec.preload], "runners": []},
        }
        suite = {
            "id": identity(base["id"], folder, spec.args, spec.bundle, params.get("code")),
            "prepare": {"kind": "pytest", "args": spec.args, "directory": folder, "files": []},
        }
        return [base, suite]

    # -- while it runs ----------------------------------------------------------------------------
    def _publish_report(self) -> None:
        report = self._report.report
        for found in report.take_collected():
            self.machine.collected(
                self.attempt,
                found.file,
                found.selected,
                found.deselected,
                found.digest,
                found.ids,
                found.scoped,
            )
        for cases, measurements, truncated in report.take():
            told = self._shard.retold(cases)
            self.machine.report(self.attempt, told, measurements, truncated)

    # -- the end ----------------------------------------------------------------------------------
    def on_done(self, facts: Facts) -> None:
        self._hear()
        self._total = facts if self._total is None else added(self._total, facts)
        if self._set_up_failed(facts):
            self._conclude(self._total)
            return
        if self.limit and facts.why == "killed":
            facts = msgspec.structs.replace(facts, why=self.limit)
        report = self._report.report
        told = self._shard.ended(facts, report)
        if told:
            report.judge(told)
            self.machine.report(self.attempt, told, [])
            self.shop.told()
        if self._shard.work is None or self._abandoned() or self.attempt.cancelled:
            self._put_together()
            self._conclude(self._total)
        else:
            self._go_on(facts)

    def _set_up_failed(self, facts: Facts) -> bool:
        return facts.code == PREPARE_FAILED and not facts.why and not self._report.report.begun

    def _go_on(self, facts: Facts) -> None:
        """The next process, in a slot of its own: whoever waits in ours may have begun."""
        self._save_output(facts)
        self._report.report.cut()
        self.key = self.shop.next_key()
        try:
            order = msgspec.structs.replace(self._order(), slot=-self.key)
        except (BadTask, OSError) as error:
            self._end(Outcome(Verdict.ERROR, Cause.SETUP, str(error)))
            return
        self.shop.processes.run(self.key, order, self)

    def _save_output(self, facts: Facts) -> None:
        """The output of a process that ended is kept before that of the next."""
        self._dirty = True
        try:
            with open(self.scratch + ".outputs", "ab") as kept:
                kept.write(whole_output(self.scratch, facts))
                self._saved = kept.tell()
        except OSError as error:
            self.notes.append(f"output of a process that ended could not be kept: {error}")

    def _put_together(self) -> None:
        """The output of all processes is that of the attempt."""
        assert self._total is not None
        if not self._saved:
            return
        total = self._total
        try:
            kept = Path(self.scratch + ".outputs")
            last = whole_output(self.scratch, total)
            with kept.open("ab") as file:
                file.write(last)
            kept.replace(output_path(self.scratch))
            stored = self._saved + len(last)
            self._total = msgspec.structs.replace(total, stored=stored, head=b"")
        except OSError as error:
            self.notes.append(f"the outputs could not be put together: {error}")

    def on_refused(self, stage: str, text: str) -> None:
        if self._total is None:
            super().on_refused(stage, text)
            return
        self._end(Outcome(Verdict.ERROR, Cause.SETUP, f"no process to go on in: {text}"))

    def _value(self) -> msgspec.Raw | None:
        return self._shard.value

    def _judge(self, facts: Facts) -> Outcome:
        limit = limit_outcome(self.attempt.spec, facts) if self._shard.stopped else None
        if limit is not None:
            return limit
        report = self._report.report
        if self._set_up_failed(facts):
            text = tail_text(facts.tail).strip()
            return Outcome(Verdict.ERROR, Cause.CONFIG, f"pytest cannot be set up here: {text}")
        end = report.end
        if end is not None and end.status == "config":
            return Outcome(Verdict.ERROR, Cause.CONFIG, end.message)
        problem = ""
        if end is not None and end.status in ("interrupted", "raised"):
            problem = end.message or "the session was ended by a test"
        elif end is None and facts.code and not report.failed:
            how = signal_name(-facts.code) if facts.code < 0 else f"status {facts.code}"
            problem = f"the interpreter ended with {how}"
        return judge_report(self.attempt.spec, report, problem)


def identity(*parts: object) -> str:
    """A digest over all that matters."""
    return sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:24]


def added(total: Facts, facts: Facts) -> Facts:
    """The figures of two processes that ran one after the other; how it ended, as the second."""
    return msgspec.structs.replace(
        facts,
        duration_us=total.duration_us + facts.duration_us,
        cpu_us=total.cpu_us + facts.cpu_us,
        peak_rss=max(total.peak_rss, facts.peak_rss),
        output_bytes=total.output_bytes + facts.output_bytes,
        store_error=total.store_error or facts.store_error,
        tail=(total.tail + facts.tail)[-TAIL_BYTES:],
        left=total.left + facts.left,
        scratch_left=total.scratch_left or facts.scratch_left,
    )


def whole_output(scratch: str, facts: Facts) -> bytes:
    """All that was kept of a process's output."""
    return Path(output_path(scratch)).read_bytes() if facts.stored else facts.head
