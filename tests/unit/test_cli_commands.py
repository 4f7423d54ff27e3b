"""Commands that need no server, and how every command fails, on a command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from dtf import cli
from dtf.core.errors import BrokenInvariant, DtfError, ServerUnavailable
from dtf.core.exit_codes import MEANING

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def dtf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in an empty directory with an empty home; (status, stdout, stderr)."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CONFIG_DIRS"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.run_command_line(arguments)
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def test_contexts_live_and_die(dtf: Run) -> None:
    assert dtf("context", "ls")[2].startswith("No contexts yet. Add one: dtf context add")
    status, out, err = dtf(
        "context", "add", "lab", "--server", "nats://lab:4222", "--user", "me", "--password", "s3"
    )
    assert (status, "lab" in out) == (0, True)
    assert "next" not in err or "s3" not in err
    assert dtf("context", "use", "lab")[0] == 0
    listed = msgspec.json.decode(dtf("context", "ls", "--json")[1])
    assert listed["schema"] == "dtf.contexts/1"
    assert listed["rows"] == [
        {"name": "lab", "used": True, "server": "nats://lab:4222", "pool": None}
    ]
    shown = dtf("context", "show")[1]
    assert "nats://lab:4222" in shown
    assert "s3" not in shown
    assert dtf("context", "validate")[0] == 0
    assert dtf("context", "rm", "lab")[0] == 0
    assert dtf("context", "show")[0] == 2


def test_a_context_without_a_server_is_refused_and_not_written(dtf: Run) -> None:
    status, _, err = dtf("context", "add", "lab")
    assert status == 2
    assert "names no server; nothing was written" in err
    assert "next: dtf context add lab --server" in err
    assert "No contexts" in dtf("context", "ls")[2]


def test_config_names_the_source_of_each_value(dtf: Run, tmp_path: Path) -> None:
    (tmp_path / "dtf.toml").write_text('pool = "night"\n')
    rows = msgspec.json.decode(
        dtf("config", "show", "--origin", "--json", "--server", "nats://x:1")[1]
    )["rows"]
    found = {row["setting"]: (row["value"], row["origin"]) for row in rows}
    assert found["pool"] == ("night", str(tmp_path / "dtf.toml"))
    assert found["server"] == ("nats://x:1", "flag --server")
    assert found["data_dir"] == (str(tmp_path / ".dtf"), "default")


def test_global_options_stand_anywhere(dtf: Run) -> None:
    before = dtf("-o", "csv", "help", "exit-codes")
    after = dtf("help", "exit-codes", "-o", "csv")
    assert before == after
    assert before[1].splitlines()[0] == "code,name,meaning"


def test_exit_codes_are_printed_from_their_one_source(dtf: Run) -> None:
    rows = msgspec.json.decode(dtf("help", "exit-codes", "--json")[1])["rows"]
    assert rows == [
        {"code": int(code), "name": code.name.lower(), "meaning": text}
        for code, text in MEANING.items()
    ]


def test_the_schema_describes_every_event(dtf: Run) -> None:
    schema = msgspec.json.decode(dtf("schema")[1])
    assert "TaskAssigned" in schema["$defs"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command(dtf: Run, shell: str) -> None:
    status, out, _ = dtf("completion", shell)
    assert status == 0
    for words in ("runs", "retry", "worker", "undrain", "plan"):
        assert words in out


def test_every_command_has_help_that_says_what_it_does(dtf: Run) -> None:
    for command in cli.COMMANDS:
        status, out, err = dtf(*command.words.split(), "--help")
        assert (status, err) == (0, ""), command.words
        assert f"Usage: dtf {command.words}" in out
        assert "Everywhere" in out


def test_a_group_alone_shows_its_commands(dtf: Run) -> None:
    for group in cli.GROUPS:
        status, out, _ = dtf(group)
        assert status == 0
        assert "Commands" in out


@pytest.mark.parametrize(
    ("arguments", "error", "following"),
    [
        (("rn",), "there is no command `dtf rn`", "dtf run"),
        (("task", "lgo"), "there is no command `dtf task lgo`", "dtf task log"),
        (("worker", "x"), "there are: drain, ls, show, undrain", "dtf worker --help"),
        (("completion", "tcsh"), 'Invalid value "tcsh"', "dtf completion --help"),
        (("task", "log"), "TASK", "dtf task log --help"),
        (("runs", "ls", "--limit", "many"), '"many"', "dtf runs ls --help"),
    ],
)
def test_a_wrong_command_line_names_the_next_one(
    dtf: Run, arguments: tuple[str, ...], error: str, following: str
) -> None:
    status, out, err = dtf(*arguments)
    assert status == 2
    assert out == ""
    assert error in err
    assert err.endswith(f"  next: {following}\n")


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """`dtf schema` raises the error."""

    def schema() -> int:
        raise error

    monkeypatch.setattr("dtf.core.commands.schema", schema)


def test_an_operating_error_is_two_lines(dtf: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ServerUnavailable("nobody answers", remedy="dtf up"))
    assert dtf("schema") == (3, "", "error: nobody answers\n  next: dtf up\n")


def test_an_error_inside_groups_of_tasks_is_the_same_error(
    dtf: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = ExceptionGroup("tasks", [ValueError("later"), DtfError("the cause")])
    failing(monkeypatch, ExceptionGroup("outer", [inner]))
    assert dtf("schema")[2] == "error: the cause\n"


@pytest.mark.parametrize("error", [RuntimeError("boom"), BrokenInvariant("boom", ("a fact",))])
def test_a_bug_is_one_line_and_a_file_to_report(
    dtf: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: BaseException
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    failing(monkeypatch, error)
    status, out, err = dtf("schema")
    assert (status, out) == (1, "")
    assert err.startswith("error: dtf has a bug: ")
    assert "boom" in err
    assert "Traceback" not in err
    story = Path(err.rpartition(" in ")[2].strip()).read_text()
    assert "arguments: ['schema']" in story
    assert "Traceback" in story


def test_a_traceback_is_shown_on_request(dtf: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, DtfError("no"))
    assert "Traceback" in dtf("schema", "-vv")[2]
    assert "Traceback" not in dtf("schema")[2]
    monkeypatch.setenv("DTF_TRACE", "1")
    assert "Traceback" in dtf("schema")[2]


def test_an_interrupt_is_130(dtf: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    assert dtf("schema") == (130, "", "interrupted\n")
