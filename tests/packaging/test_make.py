"""The two commands of the README set everything up, or say what is missing and how to get it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory with the Makefile and nothing set up."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments], cwd=checkout, env=clean, capture_output=True, text=True
    )


@pytest.mark.parametrize("target", ["demo", "test", "suites", "check", "bench", "docs"])
def test_without_a_python_each_target_says_which_one_it_needs(checkout: Path, target: str) -> None:
    done = make(checkout, target, "PYTHON=")
    assert done.returncode != 0
    assert "dtf needs Python 3.11 or newer" in done.stderr
    assert f"make {target} PYTHON=/path/to/python3" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_python_that_cannot_make_environments_is_named_with_the_remedy(checkout: Path) -> None:
    done = make(checkout, "test", "PYTHON=/bin/false")
    assert done.returncode != 0
    assert "/bin/false cannot make a virtual environment" in done.stderr
    assert "apt-get install python3-venv" in done.stderr
    assert not (checkout / ".venv").exists()


def test_help_names_every_command(checkout: Path) -> None:
    said = make(checkout).stdout
    for target in ("demo", "test", "suites", "check", "bench", "docs", "clean"):
        assert f"make {target}" in said


def test_ci_calls_what_people_call() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    for target in ("check", "test"):
        assert re.search(rf"^make .*\b{target}$", script.read_text(), re.MULTILINE)
