"""Source distributions in a cache, unpacked afresh for each run. Rule: the hash decides.

Everything lies in `.venv/suites`, so `make clean` removes it. Fetching is pip's, with its caches
and its index; a tree is a copy of what lies in the archive, nothing is built.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from .table import SUITES, Suite

CACHE = Path(sys.prefix) / "suites"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
FETCH_LIMIT_S = 300


def archive(suite: Suite) -> Path:
    """The source distribution, fetched if it is not in the cache; raises `RuntimeError` when it
    cannot be had.
    """
    found = CACHE / "sdists" / f"{suite.name}-{suite.version}.tar.gz"
    if not (found.exists() and _sha256(found) == suite.sha256):
        found.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=found.parent) as scratch:
            _download(suite, Path(scratch))
            (fetched,) = Path(scratch).glob("*.tar.gz")
            os.replace(fetched, found)
    return found


def _download(suite: Suite, where: Path) -> None:
    wanted = where / "wanted.txt"
    wanted.write_text(f"{suite.requirement} --hash=sha256:{suite.sha256}\n")
    how = ("--no-deps", "--no-binary", suite.name, "--require-hashes", "--dest", str(where))
    _pip("download", *how, "--requirement", str(wanted))


def site(suite: Suite) -> Path:
    """A directory with what the suite needs beside its tree."""
    named = hashlib.sha256("\n".join(suite.needs).encode()).hexdigest()[:12]
    found = CACHE / "sites" / f"{suite.name}-{named}"
    if not found.exists():
        found.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=found.parent) as scratch:
            made = Path(scratch) / "site"
            made.mkdir()
            if suite.needs:
                _pip("install", "--no-deps", "--target", str(made), *suite.needs)
            made.rename(found)
    return found


def _pip(*arguments: str) -> None:
    done = subprocess.run(
        [*PIP, *arguments], capture_output=True, text=True, timeout=FETCH_LIMIT_S, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"pip {' '.join(arguments)}: {done.stderr.strip()[-2000:]}")


def fresh_tree(suite: Suite, where: Path) -> Path:
    """The tree as it was packed, at a path that is the same in every run; `where` is replaced."""
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(parents=True)
    with tarfile.open(archive(suite)) as packed:
        packed.extractall(where, filter="data")
    (tree,) = where.iterdir()
    return tree


def environment(suite: Suite, tree: Path) -> dict[str, str]:
    """Variables under which the suite runs, in this process's environment."""
    paths = [str(tree / suite.path)] if suite.path else []
    return {"PYTHONPATH": os.pathsep.join([*paths, str(site(suite))])}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch_kept() -> None:
    """What `make test` compares is in the cache."""
    for suite in SUITES:
        if suite.kept:
            archive(suite)
            site(suite)
