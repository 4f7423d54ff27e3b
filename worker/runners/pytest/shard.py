"""One shard in a prepared session. Rule: pytest's own protocol runs each case; a case's line is in
the file before the next case begins.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import Any

import pytest
from _pytest.runner import CallInfo

from .cases import CaseKey, case_line, collect_line
from .host import Host
from .isolating import can_clone, run_in_clone
from .limits import Limits, marker_words
from .markers import needs_of, wants_a_process
from .retrying import Retry
from .splitting import NAMED_BYTES_MAX, may_stop, part_of, rest_told, scoped
from .surroundings import flush_streams
from .wire import digest_of, encode, first_line, wire_id
from .writing import ReportFile


class Ran:
    """A case that has run and whose line is not written yet."""

    def __init__(
        self, key: CaseKey, reports: list[Any], warnings: list[dict[str, Any]], retry: Retry | None
    ) -> None:
        self.key = key
        self.reports = reports
        self.warnings = warnings
        self.tries = retry.tries if retry else 1
        self.earlier = retry.earlier if retry else []


class Shard:
    """Runs once. `value` and `status` are what the end line tells."""

    def __init__(self, host: Host, work: dict[str, Any], report: ReportFile) -> None:
        self.host = host
        self.work = work
        self.report = report
        self.config = host.config
        self.session = host.session
        self.recorder = host.recorder
        self.isolation = str(work.get("isolation") or "none")
        self.limits = Limits(host, report, work.get("timeout_s"))
        self.rest: list[CaseKey] = []
        self.missing: list[str] = []
        self.elsewhere: dict[tuple[str, str, int], list[str]] = {}
        """Cases for other workers: (file, hardware, memory) -> ids."""
        self.value: dict[str, Any] = {}
        self.files_of: dict[int, str] = {}
        self.warnings_of: dict[int, list[dict[str, Any]]] = {}
        self._held = b""
        self._last: Ran | None = None
        self._loud = getattr(self.config.option, "capture", "fd") not in ("fd", "sys")

    # -- which cases ------------------------------------------------------------------------------
    def collect(self) -> list[CaseKey]:
        """Every file of the shard is collected and told; the cases to run, in order."""
        queue: list[CaseKey] = []
        for entry in self.work.get("files") or []:
            path = str(entry["path"])
            if path not in self.host.collection.files:
                self.report.write(encode({"begin": wire_id(path)}))
                self.host.collection.get([(path, bool(entry.get("given")))])
            queue.extend(self._told(path, entry))
        return queue

    def _told(self, path: str, entry: dict[str, Any]) -> list[CaseKey]:
        found = self.host.collection.files[path]
        pairs = list(zip(found.items, found.ids, strict=True))
        digest, deselected = "", found.deselected
        if self.work.get("lastfailed") is not None:
            wanted = _failed_before(self.work["lastfailed"])
            pairs = [pair for pair in pairs if wanted(pair[1])]
            deselected += len(found.ids) - len(pairs)
            digest = digest_of(wired for _, wired in pairs)
        told: dict[str, Any] = {"file": wire_id(path), "selected": len(pairs)}
        told |= {"deselected": deselected, "digest": digest or found.digest()}
        if self._shared(path):
            told["scoped"] = True
        named = self.work.get("ids_wanted")
        if named and sum(len(wired) + 4 for _, wired in pairs) <= NAMED_BYTES_MAX:
            told["ids"] = [wired for _, wired in pairs]
        lines = self._failures(path, found)
        self.report.write(encode({"collected": told}) + lines)
        if pairs and found.warnings and not found.failures:
            self.warnings_of[id(pairs[0][0])] = found.warnings
        keys = [CaseKey(item, wired) for item, wired in self._chosen(pairs, entry)]
        keys = [key for key in keys if not self._belongs_elsewhere(path, key)]
        for key in keys:
            self.files_of[id(key.item)] = path
        return keys

    def _belongs_elsewhere(self, path: str, key: CaseKey) -> bool:
        """Whether the case asks for other hardware, or more memory, than this shard was given.

        It then goes back: what ran on the wrong device would prove nothing.
        """
        hardware, memory = needs_of(key.item)
        given = str(self.work.get("hardware") or "")
        least = int(self.work.get("memory_bytes") or 0)
        if (not hardware or not given or hardware == given) and memory <= least:
            return False
        needs = (path, hardware or given, max(memory, least))
        self.elsewhere.setdefault(needs, []).append(key.id)
        return True

    def _failures(self, path: str, found: Any) -> bytes:
        """The lines of what could not be collected, or skipped itself as a whole."""
        reports = list(found.failures)
        if found.problem:
            reports.append(pytest.CollectReport(path, "failed", found.problem, None))
        lines, warnings = b"", found.warnings
        for report in reports:
            inside = report.nodeid.startswith(path + "::")
            name = wire_id(report.nodeid if inside else path)
            line, verdict = collect_line(self.config, name, report, warnings)
            lines, warnings = lines + line, []
            self.session.testsfailed += verdict == "error"
        return lines

    def _chosen(self, pairs: list[tuple[Any, str]], entry: dict[str, Any]) -> list[tuple[Any, str]]:
        ids, excluded = entry.get("ids"), entry.get("not")
        if ids is not None:
            wanted = {wire_id(name) for name in ids}
            above = tuple(wanted.difference(wired for _, wired in pairs))
            heads = tuple(name + mark for name in above for mark in ("::", "["))
            pairs = [pair for pair in pairs if pair[1] in wanted or pair[1].startswith(heads)]
            there = [wired for _, wired in pairs if wired not in wanted]
            for name in above:  # of a class or function, whose cases are wanted
                if not any(wired.startswith((f"{name}::", f"{name}[")) for wired in there):
                    self.missing.append(name)
        if entry.get("part") is not None:
            number, count = entry["part"]
            split = str(self.work.get("split") or "case")
            pairs = [pair for pair in pairs if part_of(pair[1], count, split) == number]
        if excluded:
            unwanted = {wire_id(name) for name in excluded}
            pairs = [pair for pair in pairs if pair[1] not in unwanted]
        return pairs

    # -- running ----------------------------------------------------------------------------------
    def run(self) -> str:
        """All cases have run, or what stopped them is returned ("" when nothing did).

        Raises what ends plain pytest: KeyboardInterrupt, pytest.exit, an internal error.
        """
        queue = self.collect()
        if getattr(self.config.option, "collectonly", False):
            return ""
        stop = self._stopped() if queue else ""
        if not stop:
            one_only = self.isolation == "case" and not can_clone()
            if one_only:
                self.value["fresh"] = True  # the rest wants a process a case
            stop = self._loop(queue, one_only)
        self.tear_down(self.host.end if self._open_ended() and not stop else None)
        return stop

    def _loop(self, queue: list[CaseKey], one_only: bool) -> str:
        budget_s = float(self.work.get("budget_ms") or 0) / 1000
        last = self.host.end if self._open_ended() else None
        cloned = self.isolation == "case" and not one_only
        began = time.perf_counter()
        for index, key in enumerate(queue):
            following = queue[index + 1].item if index + 1 < len(queue) else last
            if cloned or (wants_a_process(key.item) and can_clone()):
                self._write_held(key)
                run_in_clone(self, key)
            else:
                self._one(key, None if one_only else following)
            stop = self._stopped()
            if stop:
                return stop
            late = budget_s and time.perf_counter() - began > budget_s
            if (late or one_only) and index + 1 < len(queue):
                if not one_only and not self._divisible(key, queue[index + 1]):
                    continue
                self.rest = queue[index + 1 :]
                break
        return ""

    def _divisible(self, key: CaseKey, following: CaseKey) -> bool:
        """Whether the rest may go to another process; without a split mode always."""
        split = str(self.work.get("split") or "case")
        shared = split == "auto" and self._shared(self.files_of[id(following.item)])
        return may_stop(split, key.id, following.id, shared=shared)

    def _shared(self, path: str) -> bool:
        found = self.host.collection.files[path]
        if found.scoped is None:
            found.scoped = scoped(found.items)
        return bool(found.scoped)

    def _one(self, key: CaseKey, following: Any) -> None:
        self._write_held(key)
        self._last = ran = self.run_case(key, following)
        self._held, _ = self.line_of(ran)

    def run_case(self, key: CaseKey, following: Any) -> Ran:
        """The case has run by pytest's protocol, again when it failed and asks for it."""
        recorder, item = self.recorder, key.item
        recorder.reports = reports = []
        retries, limit_s = marker_words(item)
        self.limits.begin(key, limit_s)
        retry = None
        if retries:
            retry = Retry(self.host, item, following, retries)
            recorder.reports = reports = retry.run()
        else:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        self.limits.finish()
        if os.getpid() != recorder.pid:  # a child of the test came back into our loop
            os._exit(0)
        if self._loud:
            flush_streams()
        warnings = recorder.take_warnings()
        if self.warnings_of:
            warnings = self.warnings_of.pop(id(item), []) + warnings
        return Ran(key, reports, warnings, retry)

    def line_of(self, ran: Ran, tries: int = 0) -> tuple[bytes, str]:
        tries = max(ran.tries, tries)
        return case_line(self.config, ran.key, ran.reports, ran.warnings, tries, ran.earlier)

    def _write_held(self, key: CaseKey | None) -> None:
        """One system call: the line of the case before, and that this one begins."""
        held, self._held = self._held, b""
        self.report.write(held + key.begin() if key is not None else held)

    def _open_ended(self) -> bool:
        return self.isolation == "none"

    def _stopped(self) -> str:
        """Why no further case may run; as the loop of plain pytest asks after each one."""
        session = self.session
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        if session.shouldfail:
            return str(session.shouldfail)
        limit = getattr(self.config.option, "maxfail", 0)
        if limit and session.testsfailed >= limit:
            return f"stopping after {session.testsfailed} failures"
        return ""

    # -- the end ----------------------------------------------------------------------------------
    def tear_down(self, until: Any) -> None:
        """What is still set up below `until` (None: everything) is torn down; an error there is
        the teardown error of the case that ran last.
        """
        stack = self.session._setupstate.stack
        keep = 1 if until is not None else 0
        ran = self._last
        if len(stack) > keep and ran is None and self.host.last is not None:
            ran = Ran(self.host.last, [], [], None)
        if len(stack) > keep:
            report = self._late_teardown(ran, until)
            if report is not None and ran is not None:
                ran.reports = [r for r in ran.reports if r.when != "teardown"] + [report]
                self._held, _ = self.line_of(ran)
        if self._last is not None:
            self.host.last = self._last.key
        self._write_held(None)

    def _late_teardown(self, ran: Ran | None, until: Any) -> Any:
        """The report of a teardown that failed, else None."""
        state = self.session._setupstate
        item = ran.key.item if ran is not None else self.host.end
        reraise = (KeyboardInterrupt, pytest.exit.Exception)

        def captured() -> None:
            with ExitStack() as around:
                self._surround(around, item)
                state.teardown_exact(until)

        call = CallInfo.from_call(captured, "teardown", reraise=reraise)
        if len(state.stack) > (until is not None):  # the capture itself was broken by a test
            again = CallInfo.from_call(
                lambda: state.teardown_exact(until), "teardown", reraise=reraise
            )
            call = call if call.excinfo is not None else again
        if ran is not None:
            ran.warnings = ran.warnings + self.recorder.take_warnings()
        if call.excinfo is None:
            return None
        self.session.testsfailed += 1
        return item.ihook.pytest_runtest_makereport(item=item, call=call)

    def _surround(self, around: ExitStack, item: Any) -> None:
        """Warnings and output are recorded, as around any teardown."""
        manager = self.config.pluginmanager
        if manager.hasplugin("warnings"):
            from _pytest.warnings import catch_warnings_for_item

            around.enter_context(
                catch_warnings_for_item(
                    config=self.config, ihook=item.ihook, when="runtest", item=item
                )
            )
        capture = manager.get_plugin("capturemanager")
        if capture is not None and capture._global_capturing is not None:
            around.enter_context(capture.item_capture("teardown", item))

    def flush(self) -> None:
        """The line of the last case is written, whatever ended the shard."""
        self._write_held(None)

    def results(self) -> dict[str, Any]:
        """The value of the end line."""
        rest: dict[str, list[str]] = {}
        for key in self.rest:
            rest.setdefault(self.files_of[id(key.item)], []).append(key.id)
        stack = self.session._setupstate.stack
        is_open = any(any(map(_matters, found[1:])) for found, _ in stack.values())
        value: dict[str, Any] = {
            "rest": rest_told(rest),
            "missing": self.missing,
            "host": str(self.work.get("host") or self.work.get("close") or ""),
            "open": is_open,
        }
        if self.elsewhere:
            value["elsewhere"] = [
                {"path": path, "hardware": hardware, "memory_bytes": memory, "ids": ids}
                for (path, hardware, memory), ids in self.elsewhere.items()
            ]
        return value | self.value


def _matters(finalizer: Any) -> bool:
    """Whether a finalizer does anything: not that of a fixture that only returned a value."""
    called = getattr(finalizer, "func", finalizer)  # pytest wraps `FixtureDef.finish` in a partial
    if getattr(called, "__qualname__", "").startswith("FixtureDef.execute"):
        return False  # tells plugins that the fixture is gone
    left = getattr(getattr(called, "__self__", None), "_finalizers", None)
    return left is None or any(map(_matters, left))


def _failed_before(names: list[str]) -> Any:
    """Whether an id is one of these, or below one of these."""
    exact = {wire_id(name) for name in names}

    def wanted(name: str) -> bool:
        if name in exact:
            return True
        path, _, rest = name.partition("[")
        parts = path.split("::")
        above = {"::".join(parts[:count]) for count in range(1, len(parts) + bool(rest))}
        return not exact.isdisjoint(above)

    return wanted


_NOT_THE_SUITE = (
    f"{os.sep}_pytest{os.sep}",
    f"{os.sep}pluggy{os.sep}",
    os.path.dirname(os.path.abspath(__file__)) + os.sep,
)


def where_interrupted(error: BaseException) -> str:
    """The message of an interruption: pytest.exit's own, or file, line and kind."""
    if isinstance(error, pytest.exit.Exception):
        return first_line(str(error.msg))
    told = first_line(str(error)) or type(error).__name__
    frames = error.__traceback__
    place = ""
    while frames is not None:
        name = frames.tb_frame.f_code.co_filename
        if not any(part in name for part in _NOT_THE_SUITE):
            place = f"{name}:{frames.tb_lineno}: "
        frames = frames.tb_next
    return f"{place}{told}"
