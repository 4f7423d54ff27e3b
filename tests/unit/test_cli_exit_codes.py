"""Every exit code has one meaning, one source, and one way to be reached."""

from __future__ import annotations

import pytest
from dtf.core import errors
from dtf.core.exit_codes import MEANING, ExitCode, code_for_counts, code_for_error


def test_every_code_is_documented() -> None:
    assert list(MEANING) == list(ExitCode)
    assert [int(code) for code in ExitCode] == [0, 1, 2, 3, 4, 5, 6, 130]


@pytest.mark.parametrize(
    ("counts", "size", "code"),
    [
        ({"passed": 3}, 3, ExitCode.PASSED),
        ({"passed": 2, "skipped": 1}, 3, ExitCode.PASSED),
        ({"passed": 2, "failed": 1}, 3, ExitCode.FAILED),
        ({"failed": 1, "no_capacity": 2}, 3, ExitCode.FAILED),
        ({"passed": 2, "fallback": 1}, 3, ExitCode.INCOMPLETE),
        ({"timed_out": 3}, 3, ExitCode.INCOMPLETE),
        ({"no_capacity": 3}, 3, ExitCode.INCOMPLETE),
        ({"error": 1, "passed": 2}, 3, ExitCode.INCOMPLETE),
        ({"cancelled": 1, "passed": 2}, 3, ExitCode.INCOMPLETE),
        ({"passed": 2}, 3, ExitCode.INCOMPLETE),
        ({}, 0, ExitCode.EMPTY),
    ],
)
def test_a_run_ends_with_the_code_of_its_counts(
    counts: dict[str, int], size: int, code: ExitCode
) -> None:
    assert code_for_counts(counts, size) is code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidSuite("x"), ExitCode.USAGE),
        (errors.NotFound("x"), ExitCode.USAGE),
        (errors.ServerUnavailable("x"), ExitCode.UNAVAILABLE),
        (errors.NoLeader("x"), ExitCode.UNAVAILABLE),
        (errors.QueryRefused("x"), ExitCode.FAILED),
        (errors.DtfError("x"), ExitCode.FAILED),
    ],
)
def test_an_error_ends_with_the_code_of_its_kind(error: errors.DtfError, code: ExitCode) -> None:
    assert code_for_error(error) is code
