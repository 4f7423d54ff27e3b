"""What an import costs. Rule: looked up in `sys.modules` of a process of its own, never assumed."""

from __future__ import annotations

import subprocess
import sys

import pytest

PURE = ("codec", "errors", "events", "evolve", "fold", "ids", "model", "ports", "state", "subjects")
IO = {"anyio", "asyncio", "cyclopts", "duckdb", "nats", "rich", "socket", "subprocess", "textual"}


def modules_after(statement: str) -> set[str]:
    """Top-level modules that `statement` adds to those of a bare interpreter."""
    program = (
        f"import sys; before = set(sys.modules); {statement}\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_load_nothing_that_does_io(module: str) -> None:
    assert not modules_after(f"import dtf.core.{module}") & IO


def test_importing_dtf_loads_only_the_standard_library() -> None:
    """A test that reports measurements pays for no library of ours."""
    assert modules_after("import dtf") - sys.stdlib_module_names == {"dtf"}
    assert not modules_after("import dtf") & IO
