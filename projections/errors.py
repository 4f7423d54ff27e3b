"""What can go wrong with the DuckDB file. Rule: the file is never the truth, so each has a way on.

DatabaseBusy      another process holds the file
DatabaseFull      the disk is full: the last transaction stands, the next is tried again
DatabaseBroken    the file cannot be read: it is moved aside and rebuilt from the log
DatabaseForeign   the file is not a projection of this pool: it is left alone
"""

from __future__ import annotations

from ..core.errors import DtfError, Unavailable, UserError


class DatabaseBusy(Unavailable):
    """Another process holds the file. Carries `pid` where the lock tells it."""

    def __init__(self, message: str, pid: int | None = None, *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.pid = pid


class DatabaseFull(Unavailable):
    """The disk is full. Nothing of the refused transaction is in the file."""


class DatabaseBroken(DtfError):
    """The file cannot be read or written any more."""


class DatabaseForeign(UserError):
    """The file is a DuckDB database that is no projection, or that of another pool."""
