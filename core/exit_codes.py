"""What the exit status of every command says. Rule: this is the one place; all else reads it.

Pure and light: `dtf help exit-codes` prints the table. CI scripts branch on the numbers, so they
never change.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from .errors import DtfError, Unavailable, UserError


class ExitCode(IntEnum):
    """Exit status of a `dtf` command."""

    PASSED = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 3
    INCOMPLETE = 4
    DIVERGED = 5
    EMPTY = 6
    INTERRUPTED = 130


MEANING: Mapping[ExitCode, str] = {
    ExitCode.PASSED: "everything asked for was done; of a run: every task passed or was skipped",
    ExitCode.FAILED: "at least one task failed, or the command itself failed",
    ExitCode.USAGE: "the command line, a file or a name is wrong; nothing was changed",
    ExitCode.UNAVAILABLE: "no server answers, or nobody leads the pool",
    ExitCode.INCOMPLETE: "nothing failed, but not everything ran where and as it was asked to: "
    "lost, timed out, cancelled, fallback, error, or no worker is able to run it",
    ExitCode.DIVERGED: "the audit found that a replay of the log differs from what was recorded",
    ExitCode.EMPTY: "the filters selected no task; nothing was run",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C; the run was cancelled first where there was one",
}
"""One sentence for each code, as `dtf help exit-codes` prints it."""

_FAILURES = ("failed",)
_GOOD = ("passed", "skipped")


def code_for_error(error: DtfError) -> ExitCode:
    """The exit code of a command that ended with `error`."""
    if isinstance(error, Unavailable):
        return ExitCode.UNAVAILABLE
    if isinstance(error, UserError):
        return ExitCode.USAGE
    return ExitCode.FAILED


def code_for_counts(counts: Mapping[str, int], size: int) -> ExitCode:
    """The exit code of a settled run with `counts` tasks by verdict, out of `size` tasks.

    Failures win over what is incomplete: a broken test stays visible when a worker was lost too.
    """
    if size == 0:
        return ExitCode.EMPTY
    if any(counts.get(verdict) for verdict in _FAILURES):
        return ExitCode.FAILED
    if sum(counts.get(verdict, 0) for verdict in _GOOD) < size:
        return ExitCode.INCOMPLETE
    return ExitCode.PASSED
