"""What the thread that follows the pool tells the thread that runs pytest.

Rule: plain values, decoded before they cross; whoever reads them knows nothing of the log.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from msgspec import Struct


class Warned(Struct, frozen=True, kw_only=True, gc=False):
    """A warning that a case (or the collection of its file) gave."""

    message: str = ""
    category: str = "UserWarning"
    filename: str = ""
    lineno: int = 0
    when: str = "runtest"
    nodeid: str = ""


class Detail(Struct, frozen=True, kw_only=True):
    """What the runner tells of a case beyond its verdict."""

    t: list[int | None] = []
    """Microseconds of set-up, call and tear-down; None or absent: did not run."""
    line: int | None = None
    """Line of the test in its file, from 0."""
    domain: str | None = None
    """The test's name in headlines, where it is not what the id says."""
    file: str | None = None
    """The file of the test, where it is not the one of the id (inherited tests)."""
    reports: list[dict[str, Any]] = []
    """Serialised reports of pytest, when some phase was not a plain pass."""
    warnings: list[Warned] = []
    earlier: list[dict[str, Any]] = []
    """Reports of earlier tries."""
    crash: str = ""
    """How a process ended that ran the case."""
    tail: str = ""
    """The last output of that process."""
    collect: dict[str, Any] | None = None
    """Serialised report of a file that could not be collected or was skipped as a whole."""


class CaseSeen(NamedTuple):
    """One case ended on a worker."""

    id: str
    verdict: str
    duration_us: int
    message: str
    tries: int
    detail: Detail | None
    worker: str
    split: bool
    """The file's cases came from several shards."""


class FileSeen(NamedTuple):
    """A worker collected a file."""

    file: str
    selected: int
    deselected: int
    digest: str
    ids: tuple[str, ...]
    worker: str


class OutputSeen(NamedTuple):
    """Live output of a shard."""

    task: str
    worker: str
    text: str
    last: bool


class FileLost(NamedTuple):
    """Cases of a file (all of it, when no ids are known) ended without a result."""

    file: str
    ids: tuple[str, ...]
    message: str


class Progress(NamedTuple):
    """Something to say about the run as a whole, once."""

    text: str


class Stopped(NamedTuple):
    """A worker's pytest was ended as a whole, and so is ours."""

    status: str
    """interrupted (a test did it), raised (an internal error), or config (it cannot start)."""
    message: str
    exit_code: int


class Ended(NamedTuple):
    """Nothing more comes: every case is told. `problem` is what broke the run, if something did."""

    problem: BaseException | None
    missing: tuple[str, ...] = ()
    """Node ids from the command line that no worker found."""
    stopped: Stopped | None = None


Seen = CaseSeen | FileSeen | OutputSeen | FileLost | Progress | Ended
