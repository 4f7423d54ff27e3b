"""A suite of as many cases as one wants. Rule: what it holds is the same in every run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .outcomes import Outcome, run_pytest

A_FILE = 1000


def write_cases(where: Path, number: int, a_file: int = A_FILE) -> None:
    """`number` cases below `where`, `a_file` in each file; one in 500 fails, one in 700 skips."""
    where.mkdir(parents=True, exist_ok=True)
    (where / "pytest.ini").write_text("[pytest]\n")
    for first in range(0, number, a_file):
        last = min(first + a_file, number)
        (where / f"test_{first:06d}.py").write_text(
            "import pytest\n\n\n"
            f"@pytest.mark.parametrize('n', range({first}, {last}))\n"
            "def test_many(n):\n"
            "    if n % 700 == 699:\n"
            "        pytest.skip('one of seven hundred')\n"
            "    assert n % 500 != 499\n"
        )


def many_cases(
    where: Path, number: int, env: Mapping[str, str], options: tuple[str, ...]
) -> tuple[Outcome, Outcome]:
    """`number` cases under plain pytest, then with `options` added."""
    write_cases(where, number)
    quiet = ("-q", "--tb=line", "-p", "no:cacheprovider")
    plain = run_pytest(where, quiet, {}, where / "plain.xml")
    return plain, run_pytest(where, (*quiet, *options), env, where / "other.xml")
