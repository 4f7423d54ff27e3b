"""docs/reference/errors.md and exit-codes.md, from core/errors.py and core/exit_codes.py."""

from __future__ import annotations

from dtf.core import errors
from dtf.core.exit_codes import MEANING, ExitCode, code_for_error

from .source import cell, one_line, table

ERRORS = """# Errors

Every error that dtf raises on purpose is a `DtfError`, names the value that is wrong, and ends with
the remedy. `BrokenInvariant` is the exception to the rule: a bug of ours, which ends the process
and carries the last facts before it.
"""
EXIT_CODES = """# Exit codes

They never change, so scripts may branch on them.
"""


def errors_page() -> str:
    rows = [*_rows(errors.DtfError, 0), *_rows(errors.BrokenInvariant, 0)]
    return f"{ERRORS}\n{table(['error', 'exit code', 'what it says'], rows)}\n"


def _rows(cls: type[BaseException], depth: int) -> list[list[str]]:
    exit_code = int(code_for_error(cls.__new__(cls))) if issubclass(cls, errors.DtfError) else "-"
    indent = "&nbsp;" * 4 * depth
    says = one_line(cls.__doc__ or "")
    rows = [[f"{indent}`{cls.__name__}`", str(exit_code), cell(says)]]
    for child in cls.__subclasses__():
        if child.__module__ == errors.__name__:
            rows += _rows(child, depth + 1)
    return rows


def exit_codes_page() -> str:
    rows = [[str(int(code)), code.name.lower(), cell(MEANING[code])] for code in ExitCode]
    return f"{EXIT_CODES}\n{table(['code', 'name', 'meaning'], rows)}\n"
