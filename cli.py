"""The command tree. Rule: a command is a name, one line of help and the place of its function.

Nothing of a room is imported before its command is chosen. Commands are plain functions that return
what they have to say (`core/listing.py`) or an exit code; rendering and errors are shared by all.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from cyclopts import App, CycloptsError, Group, Parameter

from .core.exit_codes import ExitCode
from .core.session import Session, set_session

if TYPE_CHECKING:
    from inspect import BoundArguments


class Command(NamedTuple):
    """One line of the tree: `words` as typed, the function behind them, help, panel of the help."""

    words: str
    target: str
    about: str
    panel: str = ""


START, RUN, LOOK, OPERATE, SETUP = "Start here", "Run tests", "Look", "Operate", "Set up"
PANELS = (START, RUN, LOOK, OPERATE, SETUP)
GROUPS = {
    "runs": ("Runs: list, show, wait, cancel, retry.", LOOK),
    "task": ("Tasks of a run: list, show, log, events, cancel, retry.", LOOK),
    "worker": ("Workers: list, show, drain, undrain.", OPERATE),
    "pool": ("The pool on a server: create it.", OPERATE),
    "coordinator": ("Coordinators: run one, list them.", OPERATE),
    "projector": ("The projector, from log to DuckDB: run, rebuild.", OPERATE),
    "report": ("Reports of a run: junit, md, json.", LOOK),
    "audit": ("The log itself, event by event.", LOOK),
    "context": ("Named servers and how to reach them.", SETUP),
    "config": ("The configuration in force, and where each value comes from.", SETUP),
}
COMMANDS = (
    Command("demo", "dtf.tui.running:demo", "Run sample tests of real models here.", START),
    Command("doctor", "dtf.tui.doctor:doctor", "What this machine can test; why not more.", START),
    Command("init", "dtf.core.commands:init", "Write dtf.toml and an example suite.", START),
    Command("run", "dtf.tui.running:run", "Run suites and wait for the result.", RUN),
    Command("submit", "dtf.tui.running:submit", "Submit suites to the server and return.", RUN),
    Command("plan", "dtf.tui.planning:plan", "What a run would do, and where it fits.", RUN),
    Command("status", "dtf.tui.status:status", "One screen: runs, tasks, workers.", LOOK),
    Command("runs ls", "dtf.tui.runs:runs_ls", "List runs, newest first."),
    Command("runs show", "dtf.tui.runs:runs_show", "One run with its matrix and failures."),
    Command("runs wait", "dtf.tui.running:wait", "Follow a run to its end."),
    Command("runs cancel", "dtf.tui.acting:runs_cancel", "Cancel a run."),
    Command("runs retry", "dtf.tui.running:retry", "Run again what did not pass."),
    Command("task ls", "dtf.tui.tasks:task_ls", "List tasks of a run."),
    Command("task show", "dtf.tui.tasks:task_show", "One task with attempts and measurements."),
    Command("task log", "dtf.tui.logs:task_log", "Output of a task; -f follows it live."),
    Command("task cancel", "dtf.tui.acting:task_cancel", "Cancel one task."),
    Command("task retry", "dtf.tui.running:task_retry", "Run one task again."),
    Command("task events", "dtf.tui.logs:task_events", "Every event about a task, in order."),
    Command("worker ls", "dtf.tui.workers:worker_ls", "List workers."),
    Command("worker show", "dtf.tui.workers:worker_show", "One worker with devices and load."),
    Command("worker drain", "dtf.tui.acting:worker_drain", "Take a worker out of rotation."),
    Command("worker undrain", "dtf.tui.acting:worker_undrain", "Put a worker back."),
    Command("up", "dtf.pool:up", "A whole pool on this machine, until Ctrl-C.", OPERATE),
    Command("down", "dtf.pool:down", "End the pool that `dtf up` runs on this machine.", OPERATE),
    Command("pool init", "dtf.core.commands:pool_init", "Create the pool on the server."),
    Command("coordinator run", "dtf.coordinator.commands:run", "Run a coordinator."),
    Command("coordinator ls", "dtf.coordinator.commands:ls", "List coordinators."),
    Command("projector run", "dtf.projections.commands:projector_run", "Run the projector."),
    Command(
        "projector rebuild", "dtf.projections.commands:projector_rebuild", "Rebuild and compare."
    ),
    Command("sql", "dtf.projections.commands:sql", "Ask the history in SQL (read-only).", LOOK),
    Command("report junit", "dtf.projections.commands:report_junit", "JUnit XML of a run."),
    Command("report md", "dtf.projections.commands:report_md", "Markdown summary of a run."),
    Command("report json", "dtf.projections.commands:report_json", "Everything about a run."),
    Command("audit tail", "dtf.projections.commands:audit_tail", "Events as they are stored."),
    Command("context add", "dtf.core.commands:context_add", "Name a server."),
    Command("context ls", "dtf.core.commands:context_ls", "List contexts."),
    Command("context use", "dtf.core.commands:context_use", "Choose the context to use."),
    Command("context show", "dtf.core.commands:context_show", "One context, secrets masked."),
    Command("context rm", "dtf.core.commands:context_rm", "Remove a context."),
    Command("context validate", "dtf.core.commands:context_validate", "Check context files."),
    Command("config show", "dtf.core.commands:config_show", "Every setting; --origin: its source."),
    Command("completion", "dtf.cli:completion", "Completion script for bash, zsh or fish.", SETUP),
    Command("help", "dtf.cli:help_topic", "Help on a topic: exit-codes.", SETUP),
    Command("schema", "dtf.core.commands:schema", "JSON Schema of every event.", SETUP),
)
EVERYWHERE = Group("Everywhere", sort_key=90)
_EPILOGUE = "Data goes to stdout, narration to stderr. Exit codes: `dtf help exit-codes`."


def make_app() -> App:
    """The whole command tree, nothing of it loaded."""
    from . import __version__

    panels = {name: Group(name, sort_key=place) for place, name in enumerate(PANELS)}
    app = App(
        name="dtf",
        help="Run your model tests on every chip you own, and replay exactly what happened.",
        help_epilogue=_EPILOGUE,
        version=__version__,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(show_default=_shown_default, negative_bool=""),
    )
    app.meta.suppress_keyboard_interrupt = False
    app["--help"].group = app["--version"].group = EVERYWHERE
    parents = {
        name: App(name=name, help=about, group=panels[panel], version_flags=[])
        for name, (about, panel) in GROUPS.items()
    }
    for command in COMMANDS:
        group, _, name = command.words.rpartition(" ")
        if group:
            parents[group].command(command.target, name=name, help=command.about, version_flags=[])
        else:
            app.command(
                command.target,
                name=name,
                help=command.about,
                group=panels[command.panel],
                version_flags=[],
            )
    for parent in parents.values():
        app.command(parent)
    app.meta.default(_root)
    _apps.append(app)
    return app


def _shown_default(value: Any) -> str | None:
    """Defaults that say something; "off" and "nothing" go without saying."""
    return None if value in (False, "", None) or value == Path(".") else str(value)


_apps: list[App] = []
"""The tree of this process, once made: completion and help read it."""


def _root(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    output: Annotated[
        Literal["table", "json", "jsonl", "csv", "md"],
        Parameter(name=["--output", "-o"], group=EVERYWHERE, show_default=False),
    ] = "table",
    json: Annotated[bool, Parameter(negative="", group=EVERYWHERE, show_default=False)] = False,
    quiet: Annotated[
        bool, Parameter(name=["--quiet", "-q"], negative="", group=EVERYWHERE, show_default=False)
    ] = False,
    verbose: Annotated[
        int, Parameter(name=["--verbose", "-v"], count=True, group=EVERYWHERE, show_default=False)
    ] = 0,
    progress: Annotated[
        bool, Parameter(negative="--no-progress", group=EVERYWHERE, show_default=False)
    ] = True,
    color: Annotated[
        Literal["auto", "always", "never"], Parameter(group=EVERYWHERE, show_default=False)
    ] = "auto",
    server: Annotated[str | None, Parameter(group=EVERYWHERE)] = None,
    pool: Annotated[str | None, Parameter(group=EVERYWHERE)] = None,
    context: Annotated[str | None, Parameter(group=EVERYWHERE)] = None,
    data_dir: Annotated[Path | None, Parameter(group=EVERYWHERE)] = None,
) -> int:
    """The same for every command.

    Parameters
    ----------
    output
        Format of what goes to stdout.
    json
        Short for -o json.
    quiet
        Say nothing but errors.
    verbose
        Say more; twice: with tracebacks.
    progress
        Live progress on stderr.
    color
        Colours; NO_COLOR and FORCE_COLOR count too.
    server
        Server to use, such as nats://host:4222.
    pool
        Pool to work with.
    context
        Named server (`dtf context ls`).
    data_dir
        Where the local pool keeps its log and history.
    """
    flags = {"server": server, "pool": pool, "context": context, "data_dir": data_dir}
    set_session(
        Session(
            format="json" if json else output,
            quiet=quiet,
            progress=progress and not quiet,
            color=color,
            verbose=verbose,
            flags={key: value for key, value in flags.items() if value is not None},
            open_pool=_open_pool,
        )
    )
    if verbose:
        _log(verbose)
    app = _apps[-1]
    command, bound, _ = app.parse_args(tokens, exit_on_error=False, print_error=False)
    return _finish(command, bound)


def _log(verbose: int) -> None:
    """What the parts of dtf have to say is on stderr, too."""
    import logging

    form = "%(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO if verbose == 1 else logging.DEBUG, format=form)


def _open_pool(**options: Any) -> Any:
    from .local import open_pool

    return open_pool(**options)


def _finish(command: Any, bound: BoundArguments) -> int:
    """Call the command, wait for it when it is asynchronous, render what it returns."""
    from inspect import iscoroutine

    result = command(*bound.args, **bound.kwargs)
    if iscoroutine(result):
        from .core.loop import run_async

        result = run_async(result)
    if result is None:
        return ExitCode.PASSED
    if isinstance(result, int):
        return int(result)
    from .tui.show import show

    return show(result)


def run_command_line(arguments: Sequence[str]) -> int:
    """Run one command line; its exit status. Every error is said on stderr, none escapes."""
    app = make_app()
    try:
        status: int = app.meta(
            list(arguments), exit_on_error=False, print_error=False, result_action="return_value"
        )
        sys.stdout.flush()
        return int(status or 0)
    except CycloptsError as error:
        from .tui.failures import say_usage

        say_usage(error, [command.words for command in COMMANDS])
        return ExitCode.USAGE
    except BaseException as error:
        from .tui.failures import say_failure

        return say_failure(error, arguments)


def completion(shell: Literal["bash", "zsh", "fish"], /) -> int:
    """Print the completion script of a shell.

    bash: `source <(dtf completion bash)`; zsh: write it to a file `_dtf` in your `fpath`;
    fish: `dtf completion fish | source`.

    Parameters
    ----------
    shell
        Shell the script is for.
    """
    print(_apps[-1].generate_completion(prog_name="dtf", shell=shell))
    return ExitCode.PASSED


def help_topic(topic: Literal["exit-codes"] | None = None, /) -> Any:
    """Help on a topic; without one, the list of commands.

    Parameters
    ----------
    topic
        `exit-codes`: what the status of a command says.
    """
    if topic is None:
        _apps[-1].help_print([])
        return ExitCode.PASSED
    from .core.commands import exit_codes

    return exit_codes()
