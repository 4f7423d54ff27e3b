"""What a run of pytest said, as data. Rule: two runs agree when nothing here differs.

Compared: exit code; each case of the junit file with class name, name, outcome and the first line
of its message, duplicates counted; the counts of the last line, warnings among them. Addresses,
times and numbers of temporary directories differ between any two runs and are written over.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

VARIES = (
    (re.compile(r"\b0x[0-9a-fA-F]+"), "0x_"),
    (re.compile(r"\bpytest-\d+\b"), "pytest-N"),
    (re.compile(r"(#x|\\u)(d[89a-f][0-9a-f]{2})", re.I), "half"),  # surrogates are no UTF-8
    (re.compile(r"\b\d+\.\d+(e-\d+)? ?(ms|s|us|seconds)\b"), "T"),
)
LAST = re.compile(r"^=* ?(\d+ [a-z].*|no tests ran) in [\d.]+s")
TELLS = ("failure", "error", "skipped")
LIMIT_S = 600.0


class Outcome(NamedTuple):
    """One run of pytest."""

    exit_code: int
    cases: Counter[tuple[str, ...]]
    """(class name, name, what it tells ...): how often."""
    totals: dict[str, int]
    """The counts of the last line: passed, failed, warnings, ..."""
    seconds: float
    out: str
    """stdout and stderr together."""

    @property
    def number(self) -> int:
        return sum(self.cases.values())

    def tells(self, name: str) -> tuple[str, ...]:
        """What the one case of this name tells ("passed" when nothing)."""
        (found,) = [case[2:] for case in self.cases if case[1] == name]
        return found or ("passed",)


def steady(text: str) -> str:
    """The text without what differs between any two runs."""
    for pattern, stands in VARIES:
        text = pattern.sub(stands, text)
    return text


def read_junit(path: Path) -> Counter[tuple[str, ...]]:
    """The cases of a junit file; none when it was not written."""
    if not path.exists():
        return Counter()
    cases = ET.parse(path).getroot().iter("testcase")
    return Counter(_case(case) for case in cases)


def _case(case: ET.Element) -> tuple[str, ...]:
    told = []
    for child in case:
        if child.tag in TELLS:
            message = (child.get("message") or "").split("\n")[0][:300]
            told.append(f"{child.tag} {child.get('type') or ''}: {steady(message)}")
        elif child.tag == "properties":
            told += [f"{p.get('name')}={steady(p.get('value') or '')}" for p in child]
    return (case.get("classname") or "", case.get("name") or "", *told)


def read_totals(out: str) -> dict[str, int]:
    """The counts of the last summary line; empty when there is none."""
    for line in reversed(out.splitlines()):
        if found := LAST.match(line.strip()):
            counts = (part.partition(" ") for part in found[1].split(", "))
            return {word.rstrip("s"): int(n) for n, _, word in counts if n.isdigit()}
    return {}


def command(options: Sequence[str], junit: Path | None = None) -> list[str]:
    """pytest of this environment, as a user calls it."""
    xml = [f"--junitxml={junit}"] if junit else []
    return [sys.executable, "-m", "pytest", "--color=no", *xml, *options]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, without anything that tells pytest or dtf what to do."""
    told = ("DTF_", "PYTEST_", "COVERAGE_", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(told)}
    return kept | {"COLUMNS": "120"} | dict(more or {})


def run_pytest(
    where: Path,
    options: Sequence[str],
    env: Mapping[str, str],
    junit: Path,
    limit_s: float = LIMIT_S,
) -> Outcome:
    """pytest has run in `where`; raises `subprocess.TimeoutExpired` after `limit_s`, when it is
    killed.
    """
    junit.unlink(missing_ok=True)
    started = time.perf_counter()
    done = subprocess.run(
        command(options, junit),
        cwd=where,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=limit_s,
        check=False,
    )
    seconds = time.perf_counter() - started
    out = done.stdout.decode(errors="backslashreplace")
    return Outcome(done.returncode, read_junit(junit), read_totals(out), seconds, out)


def differences(plain: Outcome, other: Outcome, most: int = 20) -> list[str]:
    """What is not the same, a line each; empty when the runs agree."""
    found = []
    if plain.exit_code != other.exit_code:
        found.append(f"exit code {plain.exit_code} became {other.exit_code}")
    if plain.totals != other.totals:
        found.append(f"totals {plain.totals} became {other.totals}")
    for sign, left, right in (("-", plain, other), ("+", other, plain)):
        odd = left.cases - right.cases
        found += [f"{sign} {number} x {case}" for case, number in sorted(odd.items())[:most]]
        if len(odd) > most:
            found.append(f"{sign} and {len(odd) - most} more")
    return found
