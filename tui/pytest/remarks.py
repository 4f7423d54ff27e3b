"""What only dtf knows of a run, for the end of pytest's output.

Rule: nothing is hidden: what passed at the second try, crashed, was collected differently or never
ran is named.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

from .link import Link
from .seen import CaseSeen, FileLost, FileSeen

LINES_MAX = 50
"""Most cases named in one list."""
IDS_SHOWN_MAX = 8
_MISSING = re.compile(r"(?:ModuleNotFoundError: )?No module named '([^']+)'")


class Remarks:
    """Gathered while results come."""

    def __init__(self) -> None:
        self.flaky: list[CaseSeen] = []
        self.ended: list[CaseSeen] = []
        """Cases whose process died or was ended."""
        self.lost: list[FileLost] = []
        self.collection_errors = 0
        self.uncollected = 0
        """Files nobody waited for after collection failed."""
        self.fallbacks: list[CaseSeen] = []
        self._modules: dict[str, set[str]] = {}
        self._files: dict[str, dict[str, FileSeen]] = {}

    def case(self, case: CaseSeen) -> None:
        """One more result."""
        if case.tries > 1 and case.verdict in ("passed", "skipped"):
            self.flaky.append(case)
        elif case.verdict == "fallback":
            self.fallbacks.append(case)
        elif case.verdict == "timed_out" or (case.detail is not None and case.detail.crash):
            self.ended.append(case)
        if case.verdict in ("failed", "error"):
            self._look_for_module(case)

    def collection_failed(self, case: CaseSeen) -> None:
        """A file could not be collected."""
        self.collection_errors += 1
        self._look_for_module(case)

    def collected(self, seen: FileSeen) -> None:
        """A worker collected a file; other cases than another worker's are a difference."""
        if seen.digest:
            known = self._files.setdefault(seen.file, {})
            if seen.digest not in known or not known[seen.digest].ids:
                known[seen.digest] = seen

    def _look_for_module(self, case: CaseSeen) -> None:
        text = case.message
        if case.detail is not None and case.detail.collect is not None:
            text += str(case.detail.collect.get("longrepr", ""))
        found = _MISSING.search(text)
        if found:
            self._modules.setdefault(found[1].partition(".")[0], set()).add(case.worker)

    def lines(self) -> Iterator[str]:
        """Every remark, a line each."""
        yield from _listed("FLAKY", self.flaky, "passed at try {tries}")
        yield from _listed("ENDED", self.ended, "{verdict}")
        yield from _listed("FALLBACK", self.fallbacks, "ran elsewhere than asked")
        for module, workers in self._modules.items():
            where = ", ".join(sorted(each for each in workers if each)) or "the workers"
            yield (
                f"MISSING module {module!r} on {where}: install it in the workers' interpreter, "
                "or name another one"
            )
        for file, known in self._files.items():
            if len(known) > 1:
                yield from _difference(file, list(known.values()))
        for lost in self.lost[:LINES_MAX]:
            what = f"{len(lost.ids)} cases of {lost.file}" if lost.ids else lost.file
            yield f"NOT RUN {what}: {lost.message}"
        if self.uncollected:
            files = f"{self.uncollected} file{'s' * (self.uncollected != 1)}"
            yield f"the run was cancelled before {files} could be collected"


def _listed(word: str, cases: Sequence[CaseSeen], about: str) -> Iterator[str]:
    for case in cases[:LINES_MAX]:
        told = about.format(tries=case.tries, verdict=case.verdict)
        where = f" on {case.worker}" if case.worker else ""
        message = f": {case.message}" if case.message else ""
        yield f"{word} {case.id} - {told}{where}{message}"
    if len(cases) > LINES_MAX:
        yield f"{word} and {len(cases) - LINES_MAX} more"


def _difference(file: str, seen: Sequence[FileSeen]) -> Iterator[str]:
    """Workers do not agree on the cases of a file."""
    first, *others = seen
    for other in others:
        yield f"DIFFERENT cases of {file} on {first.worker} and {other.worker}:"
        if not (first.ids and other.ids):
            yield f"  {first.selected} and {other.selected} cases"
            continue
        for one, two in ((first, other), (other, first)):
            only = [each for each in one.ids if each not in set(two.ids)]
            if only:
                shown = ", ".join(only[:IDS_SHOWN_MAX])
                more = f" and {len(only) - IDS_SHOWN_MAX} more" * (len(only) > IDS_SHOWN_MAX)
                yield f"  only on {one.worker}: {shown}{more}"


def write_remarks(terminal: Any, remarks: Remarks, link: Link) -> None:
    """One line about the run, then every remark. In quiet mode, remarks alone."""
    lines = list(remarks.lines())
    run = link.run
    if run is not None and run.follower is not None and (lines or terminal.verbosity >= 0):
        workers = len(run.follower.workers)
        seconds = time.monotonic() - run.began_s
        told = f"dtf: {workers} worker{'s' * (workers != 1)}, "
        told += f"{run.shards} shard{'s' * (run.shards != 1)}, {seconds:.2f} s"
        if remarks.flaky:
            told += f", flaky {len(remarks.flaky)}"
        if run.follower.requeued:
            told += f", repeated {len(run.follower.requeued)}"
        terminal.write_line(told)
    for line in lines:
        terminal.write_line(line, yellow=True)
