"""Light commands stay light. Rule: looked up in `sys.modules` of a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"anyio", "asyncio", "cyclopts", "duckdb", "msgspec", "nats", "rich", "textual"}
COMMAND_HEAVY = {"duckdb", "nats", "textual", "uvloop"}


def modules_of(*arguments: str, status: int = 0) -> set[str]:
    """Top-level modules loaded by a `dtf` command line."""
    program = (
        "import sys\n"
        f"sys.argv = ['dtf', *{arguments!r}]\n"
        "from dtf.__main__ import main\n"
        "status = main()\n"
        "print('\\n#', *{name.partition('.')[0] for name in sys.modules})\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return set(done.stdout.rpartition("#")[2].split())


def test_version_is_answered_before_anything_is_imported() -> None:
    assert not modules_of("--version") & HEAVY


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("worker", "ls", "--help"),
        ("task", "log", "--help"),
        ("run", "--help"),
        ("runs", "retry", "--help"),
        ("config", "show"),
        ("context", "ls"),
        ("help", "exit-codes"),
        ("completion", "bash"),
    ],
)
def test_light_commands_load_neither_nats_nor_duckdb_nor_textual(
    arguments: tuple[str, ...],
) -> None:
    assert not modules_of(*arguments) & COMMAND_HEAVY


@pytest.mark.parametrize("arguments", [("rn",), ("task", "shw"), ("nope", "x")])
def test_a_mistyped_command_loads_no_command(arguments: tuple[str, ...]) -> None:
    assert not modules_of(*arguments, status=2) & COMMAND_HEAVY
