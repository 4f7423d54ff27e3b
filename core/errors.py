"""Errors.

Rule: an operating error carries its values and ends with the remedy; a broken invariant is never
caught.

DtfError                      anything dtf raises on purpose
|- UserError                  the caller can mend it; exit code 2
|  |- InvalidName             a name that cannot enter a subject
|  |- InvalidSuite            a suite file that does not say what to run
|  |- InvalidSubmission       a run the pool would refuse
|  |- InvalidConfig           a configuration value or file
|  |- BundleTooLarge          the working tree exceeds the bundle limit
|  `- NotFound                no such run, task, worker, context ...
|- Unavailable                something outside is not there now; exit code 3
|  |- ServerUnavailable       no NATS server answers
|  |- LogUnavailable          an append got no answer: it may or may not be stored
|  `- NoLeader                nobody leads the pool
|- AppendRefused              the log said no, for good: too large, no permission, no such stream
|- LogGap                     the log does not continue where a reader stood
|- FoldVersionError           the pool is led by a newer fold than this program knows
|- BundleUnsafe               an archive that is damaged or would write outside its directory
|- BlobMissing / BlobCorrupt  a content-addressed object is absent or does not match its digest
|- QueryRefused               a query that is not read-only, or ran past its limits
`- Deposed                    this coordinator no longer leads
BrokenInvariant               a bug of ours: carries the story, ends the process
"""

from __future__ import annotations


class DtfError(Exception):
    """Anything dtf raises on purpose.

    `str()` is one or two sentences for a person; `remedy` says what to do next.
    """

    remedy: str = ""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        if remedy:
            self.remedy = remedy


class UserError(DtfError):
    """The caller can mend it. Shown without a traceback; exit code 2."""


class InvalidName(UserError):
    """A name that cannot enter a subject. Carries `what` and `value`."""

    remedy = "Use 1 to 64 of A-Z a-z 0-9 _ - and start with a letter or digit."

    def __init__(self, what: str, value: str) -> None:
        self.what, self.value = what, value
        super().__init__(f"{what} {value[:100]!r} is not a valid name")


class InvalidSuite(UserError):
    """A suite file that does not say what to run."""


class InvalidSubmission(UserError):
    """A run the pool would refuse."""


class InvalidConfig(UserError):
    """A configuration value or file that makes no sense."""


class BundleTooLarge(UserError):
    """The working tree exceeds the bundle limit."""


class NotFound(UserError):
    """No such run, task, worker, context ..."""


class Unavailable(DtfError):
    """Something outside this process is not there now. Exit code 3."""


class ServerUnavailable(Unavailable):
    """No NATS server answers at the configured address."""


class LogUnavailable(Unavailable):
    """An append got no answer in time.

    It may be stored or not: publish again under the same id (never a no).
    """


class NoLeader(Unavailable):
    """Nobody leads the pool."""


class AppendRefused(DtfError):
    """The log refused for good: message too large, no permission, no such stream.

    Never retried (protocol L6).
    """


class LogGap(DtfError):
    """The log does not continue where the reader stood (protocol F7).

    It was purged or restored, or it is another pool's.
    """


class FoldVersionError(DtfError):
    """The pool's leader folds with a newer version than this program knows (protocol F4)."""


class BundleUnsafe(DtfError):
    """An archive that is damaged or would write outside its directory. Nothing of it was kept."""


class BlobMissing(DtfError):
    """A content-addressed object is not in the store."""


class BlobCorrupt(DtfError):
    """A content-addressed object does not match its digest."""


class QueryRefused(DtfError):
    """A query that is not read-only, or ran past its row or time limit."""


class Deposed(DtfError):
    """This coordinator no longer leads: whatever it still had to send is void."""


class BrokenInvariant(AssertionError):
    """A bug of ours. Carries the last facts (the story); never caught, ends the process."""

    def __init__(self, message: str, story: tuple[object, ...] = ()) -> None:
        self.story = story
        super().__init__("\n".join([message, *(f"  {fact!r}" for fact in story)]))
