"""The simulator holds every promise for its first seeds, repeats itself, and can fail."""

from __future__ import annotations

import subprocess
import sys


def simulate(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dtf.tests.sim", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


def test_every_promise_holds_in_the_first_worlds() -> None:
    found = simulate("--seeds", "60")
    assert found.returncode == 0, found.stdout[-8000:] + found.stderr[-2000:]


def test_one_seed_is_one_story() -> None:
    first, second = simulate("--seed", "7"), simulate("--seed", "7")
    assert first.returncode == 0, first.stdout
    assert first.stdout == second.stdout


def test_mutants_are_caught() -> None:
    names = "devices are not reserved,agent obeys a deposed leader,finish beats an earlier cancel"
    found = simulate("--mutants", "--seeds", "60", "--only", names)
    assert found.returncode == 0, found.stdout + found.stderr[-2000:]
    assert "3 of 3 mutants caught" in found.stdout
