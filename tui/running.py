"""Commands that run tests: run, submit, wait, retry, demo. Rule: the end they print is true.

A run belongs to the pool: whoever follows it may leave. Without a server the pool is this process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..core.errors import NotFound
from ..core.exit_codes import ExitCode
from ..core.listing import Field, Record
from ..core.session import current
from .console import say, warn
from .following import conclude, follow_to_end
from .formats import plural, short_run
from .leader import demand_leader
from .next_step import command
from .suites import (
    Chosen,
    NothingSelected,
    Wishes,
    choose,
    largest,
    make_submission,
    parse_filters,
    parse_labels,
)

if TYPE_CHECKING:
    from ..core.client import Client
    from ..core.submit import Submission

Model = Annotated[list[str] | None, Parameter(name=["--model", "-m"], negative="")]
Hardware = Annotated[list[str] | None, Parameter(name=["--hardware", "-H"], negative="")]
Expression = Annotated[str, Parameter(name=["--keyword", "-k"])]
Labels = Annotated[list[str] | None, Parameter(name=["--label", "-l"], negative="")]
Flag = Annotated[bool, Parameter(negative="")]


async def run(
    *suites: Path,
    model: Model = None,
    hardware: Hardware = None,
    keyword: Expression = "",
    workers: Annotated[int | None, Parameter(name=["--workers", "-n"])] = None,
    junit: Path | None = None,
    allow_fallback: Flag = False,
    fail_fast: Annotated[bool, Parameter(name=["--fail-fast", "-x"], negative="")] = False,
    key: str | None = None,
    priority: int | None = None,
    label: Labels = None,
    wait_for_capacity: Flag = False,
    detach: Flag = False,
) -> int:
    """Run suites and wait for the result. Without a server, on a pool of this machine.

    Parameters
    ----------
    suites
        Suite files.
    model
        Only tasks with axis=value; several values by commas; may be repeated for other axes.
    hardware
        Only tasks for these accelerator classes.
    keyword
        Only tasks whose name matches: words with and, or, not.
    workers
        Worker processes of the local pool.
    junit
        Also write a JUnit XML file.
    allow_fallback
        Accept that a test ran elsewhere than on the hardware asked for.
    fail_fast
        Cancel the run at its first failure.
    key
        Names the run: the same key again is the same run, whoever repeats it.
    priority
        -100 to 100; higher runs first.
    label
        A label of the run as key=value; may be repeated.
    wait_for_capacity
        Keep tasks queued that no worker could run now, instead of ending them.
    detach
        Return once the run is stored; needs a pool that is up.
    """
    filters = parse_filters(model or (), hardware or (), keyword)
    wishes = Wishes(key, priority, parse_labels(label or ()), allow_fallback, wait_for_capacity)
    try:
        chosen = choose(suites, filters, wishes)
    except NothingSelected as nothing:
        return say_nothing(nothing)
    if detach:
        return await _detached(chosen, wishes)
    return await run_chosen(chosen, wishes, workers=workers, fail_fast=fail_fast, junit=junit)


def say_nothing(nothing: NothingSelected) -> int:
    """Why nothing was selected is on stderr; the exit code for it."""
    say(f"{nothing}")
    say(f"  next: {nothing.remedy}")
    return ExitCode.EMPTY


async def run_chosen(
    chosen: Sequence[Chosen],
    wishes: Wishes,
    *,
    workers: int | None = None,
    fail_fast: bool = False,
    junit: Path | None = None,
) -> int:
    """Submit, follow to the end, sum up; the exit code."""
    opener = current().open_pool
    assert opener is not None
    cpu_milli, memory_bytes = largest(chosen)
    async with opener(workers=workers, cpu_milli=cpu_milli, memory_bytes=memory_bytes) as client:
        await demand_leader(client)
        submission = await make_submission(client, chosen, wishes)
        if wishes.key is not None:
            await say_known(client, submission)
        return await follow_submission(client, submission, fail_fast=fail_fast, junit=junit)


async def say_known(client: Client, submission: Submission) -> None:
    """A run that the key already names is said to be an old one."""
    try:
        view = await client.view(submission.run)
    except NotFound:
        return
    run = short_run(submission.run)
    say(f"The key {submission.key!r} names run {run} already; nothing new is started.")
    if view.size != submission.tasks:
        told = f"{plural(view.size, 'task')}, not {submission.tasks:,}"
        warn(f"That run has {told}: another --key starts a run of this suite.")


async def follow_submission(
    client: Client, submission: Submission, *, fail_fast: bool = False, junit: Path | None = None
) -> int:
    """The run is submitted and followed to its end, its result printed; the exit code."""
    run = await client.submit(submission)
    outcome, interrupted = await follow_to_end(
        client, run, size=submission.tasks, fail_fast=fail_fast
    )
    if junit is not None:
        from ..projections.commands import write_junit

        await write_junit(client, run, junit)
    return conclude(outcome, interrupted=interrupted)


async def submit(
    *suites: Path,
    model: Model = None,
    hardware: Hardware = None,
    keyword: Expression = "",
    allow_fallback: Flag = False,
    key: str | None = None,
    priority: int | None = None,
    label: Labels = None,
    wait_for_capacity: Flag = False,
) -> int:
    """Submit suites to a pool that is up, and return. The run's id is on stdout.

    Parameters
    ----------
    suites
        Suite files.
    model
        Only tasks with axis=value; several values by commas; may be repeated for other axes.
    hardware
        Only tasks for these accelerator classes.
    keyword
        Only tasks whose name matches: words with and, or, not.
    allow_fallback
        Accept that a test ran elsewhere than on the hardware asked for.
    key
        Names the run: the same key again is the same run, whoever repeats it.
    priority
        -100 to 100; higher runs first.
    label
        A label of the run as key=value; may be repeated.
    wait_for_capacity
        Keep tasks queued that no worker could run now, instead of ending them.
    """
    filters = parse_filters(model or (), hardware or (), keyword)
    wishes = Wishes(key, priority, parse_labels(label or ()), allow_fallback, wait_for_capacity)
    try:
        chosen = choose(suites, filters, wishes)
    except NothingSelected as nothing:
        return say_nothing(nothing)
    return await _detached(chosen, wishes)


async def _detached(chosen: Sequence[Chosen], wishes: Wishes) -> int:
    from ..core.client import open_client
    from .show import show

    async with open_client(current().config) as client:
        submission = await make_submission(client, chosen, wishes)
        if wishes.key is not None:
            await say_known(client, submission)
        run = await client.submit(submission)
    follow = command("runs", "wait", short_run(run))
    if current().machine:
        fields = [Field("run", run), Field("tasks", submission.tasks), Field("key", submission.key)]
        return show(Record(kind="submitted", fields=fields))
    say(f"Submitted {plural(submission.tasks, 'task')}.")
    show(run)
    say(f"next: {follow}", style="dim")
    return ExitCode.PASSED


async def wait(run: str = "last", /) -> int:
    """Follow a run to its end; the exit code is the run's. Ctrl-C leaves it running.

    Parameters
    ----------
    run
        Run id, a unique beginning of one, or `last`.
    """
    from .history import open_history

    async with open_history() as history:
        found = await history.run(run)
        if history.client is None:
            from .past import outcome_of_history

            return conclude(await outcome_of_history(history, found))
        view = await history.client.view(found)
        outcome, _ = await follow_to_end(history.client, found, size=view.size, own=False)
    return conclude(outcome)


async def retry(
    run: str = "last",
    /,
    *,
    failed: Annotated[bool, Parameter(negative="--all")] = True,
    workers: Annotated[int | None, Parameter(name=["--workers", "-n"])] = None,
) -> int:
    """Run again what did not pass, as a new run that names the old one.

    Parameters
    ----------
    run
        Run id, a unique beginning of one, or `last`.
    failed
        Only tasks that neither passed nor were skipped; `--all` repeats every task.
    workers
        Worker processes of the local pool.
    """
    return await _retry(run, None, failed, workers)


async def task_retry(
    task: str, /, *, workers: Annotated[int | None, Parameter(name=["--workers", "-n"])] = None
) -> int:
    """Run one task again, as a new run that names the old one.

    Parameters
    ----------
    task
        RUN/TASK; RUN may be a unique beginning or `last`.
    workers
        Worker processes of the local pool.
    """
    found, _, name = task.rpartition("/")
    return await _retry(found or "last", name, False, workers)


async def _retry(run: str, task: str | None, failed: bool, workers: int | None) -> int:
    from .history import open_history
    from .repeat import repeat_submission

    opener = current().open_pool
    assert opener is not None
    async with open_history() as history:
        found = await history.run(run)
    async with opener(workers=workers) as client:
        await demand_leader(client)
        view = await client.view(found)
        submission = repeat_submission(
            view, publisher=current().config.publisher, task=task, failed=failed
        )
        if submission is None:
            say(f"Every task of run {short_run(found)} passed or was skipped: nothing to repeat.")
            say(f"  next: {command('runs', 'retry', short_run(found), '--all')}")
            return ExitCode.EMPTY
        say(f"Repeating {plural(submission.tasks, 'task')} of run {short_run(found)}.")
        return await follow_submission(client, submission)


async def demo(
    *, workers: Annotated[int | None, Parameter(name=["--workers", "-n"])] = None
) -> int:
    """Run a sample of real models on this machine; ends with their matrix.

    Parameters
    ----------
    workers
        Worker processes.
    """
    suite = Path(__file__).parent.parent / "examples" / "demo.toml"
    if suite.exists():
        return await run_chosen(choose([suite], _everything(), Wishes()), Wishes(), workers=workers)
    from ..core.starter import write_files

    say("The examples are not part of this installation; here is a small suite instead.")
    with tempfile.TemporaryDirectory(prefix="dtf-demo-") as folder:
        write_files(Path(folder))
        chosen = choose([Path(folder, "suite.toml")], _everything(), Wishes())
        return await run_chosen(chosen, Wishes(), workers=workers)


def _everything() -> Any:
    return parse_filters((), (), "")
