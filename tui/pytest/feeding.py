"""pytest's hooks, fed with what comes back. Rule: whoever listens to the hooks cannot tell that the
tests ran elsewhere, except by the order in which they end.
"""

from __future__ import annotations

import queue
import time
from types import SimpleNamespace
from typing import Any

import pytest

from ...core.errors import DtfError
from .discovery import Found
from .link import Link
from .live import LiveLines
from .remarks import Remarks
from .reports import collect_report, failed_collection, location_of, reports_of, tell_warning
from .retraction import retract_tests
from .seen import CaseSeen, Ended, FileLost, FileSeen, OutputSeen, Progress, Seen, Stopped
from .turns import Turns

TICK_S = 0.1
"""How often what waits for its turn is looked at when nothing comes."""
HOLD_S = 0.2
"""Results are held back so long while files are collected: an error there means that plain pytest
would not have run a test."""
ERRORS_S = 2.0
"""After the first file that cannot be collected, how long others may tell that they cannot."""
_SORTED = ("failed", "error", "skipped", "xfailed", "xpassed", "warnings")


class Feeding:
    """One run loop. `run` ends as pytest's own loop does."""

    def __init__(self, session: pytest.Session, link: Link, found: Found) -> None:
        files = found.files
        self.session, self.config, self.link = session, session.config, link
        self.remarks = Remarks()
        self._asked = {file: tuple(ids) for file, ids in found.selected.items()}
        """Node ids of files that are asked for in part."""
        self._hook = session.config.hook
        self._terminal: Any = session.config.pluginmanager.get_plugin("terminalreporter")
        self._live = LiveLines(self._terminal)
        self._turns: Turns[CaseSeen] = Turns(files)
        self._rank = {file: place for place, file in enumerate(files)}
        self._counts: dict[str, int] = {}
        """Cases of each collected file."""
        self._left: dict[str, int] = {}
        self._pending = set(files)
        """Files nobody collected yet."""
        self._places: dict[str, tuple[int, int, int]] = {}
        self._shown = 0
        self._first_s: float | None = None
        self._holding = True
        self._ended: Ended | None = None
        self._broken_s: float | None = None

    def run(self) -> None:
        """Every result was fed. Raises what ends pytest's own loop: Interrupted, Failed,
        KeyboardInterrupt, UsageError.
        """
        try:
            while self._ended is None:
                self._receive()
                self._show(time.monotonic())
                if self._has_waited_for_errors():
                    break
            self._finish()
        except KeyboardInterrupt:
            self._stop("Ctrl-C")
            raise
        finally:
            self._sort()

    # -- facts ---------------------------------------------------------------------------------
    def _receive(self) -> None:
        """Take what has come; wait a tick for it."""
        inbox = self.link.inbox
        try:
            self._take(inbox.get(timeout=TICK_S))
            for _ in range(1000):
                self._take(inbox.get_nowait())
        except queue.Empty:
            return

    def _take(self, seen: Seen) -> None:
        if isinstance(seen, CaseSeen):
            self._case(seen)
        elif isinstance(seen, FileSeen):
            self._file(seen)
        elif isinstance(seen, OutputSeen):
            self._live.add(seen)
        elif isinstance(seen, FileLost):
            self._lost(seen)
        elif isinstance(seen, Progress):
            if self._terminal is not None:
                self._terminal.write_line(f"dtf: {seen.text}", yellow=True)
        else:
            self._ended = seen

    def _case(self, case: CaseSeen) -> None:
        file = case.id.partition("::")[0]
        if case.id == file or (case.detail is not None and case.detail.collect is not None):
            self._collection(case, file)
            return
        if self._first_s is None:
            self._first_s = time.monotonic()
        self.remarks.case(case)
        self._turns.add(file, case)
        left = self._left.get(file)
        if left is not None:
            self._left[file] = left - 1
            if left <= 1:
                self._turns.close(file)

    def _collection(self, case: CaseSeen, file: str) -> None:
        """A file was not collected: an error, or skipped as a whole."""
        report = collect_report(case, self.config)
        self._hook.pytest_collectreport(report=report)
        for warned in case.detail.warnings if case.detail is not None else ():
            tell_warning(self.config, warned)
        self._collected(file, 0)
        if report.failed:
            self.remarks.collection_failed(case)
            if not self.config.option.continue_on_collection_errors:
                self._broken_s = self._broken_s or time.monotonic()

    def _file(self, seen: FileSeen) -> None:
        self.remarks.collected(seen)
        if seen.file in self._counts:
            return
        quiet = getattr(self.config.option, "lf", False)  # pytest leaves these out without a word
        if seen.deselected and self._terminal is not None and not quiet:
            self._terminal._add_stats(
                "deselected", [SimpleNamespace(nodeid=seen.file)] * seen.deselected
            )
        selected, asked = seen.selected, self._asked.get(seen.file)
        if asked is not None and seen.ids:
            heads = tuple(each + mark for each in asked for mark in ("::", "["))
            selected = sum(each in asked or each.startswith(heads) for each in seen.ids)
        self._left[seen.file] = selected
        self._collected(seen.file, selected)

    def _collected(self, file: str, selected: int) -> None:
        self._counts.setdefault(file, selected)
        self._pending.discard(file)
        if not selected:
            self._turns.close(file)
        known = sum(self._counts.values())
        guess = len(self._pending) * max(1, known // max(1, len(self._counts)))
        self.session.testscollected = known + guess

    def _lost(self, lost: FileLost) -> None:
        """Cases without a result are errors that say why."""
        self.remarks.lost.append(lost)
        if lost.ids:
            for each in lost.ids:
                self._case(CaseSeen(each, "error", 0, lost.message, 1, None, "", True))
            return
        self._hook.pytest_collectreport(report=failed_collection(lost.file, lost.message))
        self._collected(lost.file, self._counts.get(lost.file, 0))

    # -- showing -------------------------------------------------------------------------------
    def _show(self, now_s: float) -> None:
        """Feed what may be shown."""
        over = self._ended is not None
        if over:
            self._turns.close_all()
        waited_s = now_s - (now_s if self._first_s is None else self._first_s)
        if self._holding and self._pending and not over and waited_s < HOLD_S:
            return
        self._holding = False
        if self._broken_s is not None:
            return
        for case in self._turns.take(now_s):
            self._feed(case)
        self._live.flush()

    def _feed(self, case: CaseSeen) -> None:
        """The hooks of one test, as pytest calls them. Raises `Failed` once enough failed."""
        hook, detail = self._hook, case.detail
        location = location_of(case.id, detail)
        file = case.id.partition("::")[0]
        self._shown += 1
        line = (location[1] or 0) if case.split else 0
        self._places[case.id] = (self._rank.get(file, len(self._rank)), line, self._shown)
        hook.pytest_runtest_logstart(nodeid=case.id, location=location)
        for report in reports_of(case, self.config):
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=case.id, location=location)
        for warned in detail.warnings if detail is not None else ():
            tell_warning(self.config, warned)
        if self.session.shouldfail:
            self._stop("enough tests failed")
            raise self.session.Failed(self.session.shouldfail)
        if self.session.shouldstop:
            self._stop("the session was told to stop")
            raise self.session.Interrupted(self.session.shouldstop)

    # -- ends ----------------------------------------------------------------------------------
    def _has_waited_for_errors(self) -> bool:
        """A file could not be collected, and the others have told or had their time."""
        if self._broken_s is None:
            return False
        late = time.monotonic() - self._broken_s > ERRORS_S
        if late and self._pending:
            self.remarks.uncollected = len(self._pending)
        return late or not self._pending

    def _finish(self) -> None:
        session = self.session
        if self._broken_s is not None:
            self._stop("collection failed")
            errors = self.remarks.collection_errors
            retract_tests(self.config, session, errors)
            raise session.Interrupted(f"{errors} error{'s' * (errors != 1)} during collection")
        ended = self._ended
        assert ended is not None
        session.testscollected = max(sum(self._counts.values()), len(self._places))
        self._remember()
        if ended.problem is not None:
            self._raise(ended.problem)
        if ended.stopped is not None:
            self._end_as(ended.stopped)
        if ended.missing:
            raise pytest.UsageError(*map(self._not_found, ended.missing))

    def _end_as(self, stopped: Stopped) -> None:
        """pytest ends here as it was ended on a worker."""
        if stopped.status == "interrupted":
            pytest.exit(stopped.message, returncode=stopped.exit_code)
        if stopped.status == "config":
            raise pytest.UsageError(stopped.message)
        pytest.exit(stopped.message, returncode=pytest.ExitCode.INTERNAL_ERROR)

    def _not_found(self, name: str) -> str:
        """What pytest says of a node that its file does not have."""
        file = name.partition("::")[0]
        path = self.config.rootpath / file
        module = f"<Module {path.name}>"
        return f"not found: {self.config.rootpath / name}\n(no match in any of [{module}])"

    def _raise(self, problem: BaseException) -> None:
        """What broke the run ends pytest: our errors with their remedy, others with a traceback."""
        if not isinstance(problem, DtfError):
            raise problem
        remedy = getattr(problem, "remedy", "")
        text = f"dtf: {problem}" if str(remedy) in str(problem) else f"dtf: {problem}\n  {remedy}"
        if not self._shown:
            raise pytest.UsageError(text)
        pytest.exit(text, returncode=pytest.ExitCode.INTERNAL_ERROR)

    def _stop(self, reason: str) -> None:
        """The pool runs nothing more for us."""
        self.link.cancel(reason)

    def _remember(self) -> None:
        """pytest's cache knows the cases of this run, as --nf asks for them later."""
        from _pytest.nodeid import NodeId

        plugin: Any = self.config.pluginmanager.get_plugin("nfplugin")
        if plugin is not None:
            plugin.cached_nodeids.update(map(NodeId.parse, self._places))

    def _sort(self) -> None:
        """The summary reads as plain pytest's: in the order of collection."""
        last = (len(self._rank), 0, 0)

        def place(report: Any) -> tuple[int, int, int]:
            nodeid = report.nodeid or ""
            rank = self._rank.get(nodeid.partition("::")[0])
            return self._places.get(nodeid) or (last if rank is None else (-1, rank, 0))

        stats = self._terminal.stats if self._terminal is not None else {}
        wanted = set(self._terminal.reportchars) & set("pPA") if self._terminal else set()
        for category in (*_SORTED, *(("passed",) if wanted else ())):
            stats.get(category, []).sort(key=place)
