"""The generated reference is what the code says; every link of the documentation resolves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> None:
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_reference_matches_the_code() -> None:
    run("docs/generate.py", "--check")


def test_every_link_resolves() -> None:
    run("docs/links.py")
