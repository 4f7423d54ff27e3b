"""Steps of the fold for runs: what publishers submit and cancel, and what becomes of a run.

Rule: a run is what its publisher's key names; its parts are a set, whatever the order they land in
(protocol S1, S2, F13).
"""

from __future__ import annotations

import hashlib

from . import events as e
from .codec import Undecodable, encode_event
from .evolve_pool import close_attempt
from .ids import run_id
from .model import RUN_TASKS_MAX, array_length, array_problem, spec_problem
from .state import Group, Pool, Run
from .subjects import Subject

VALID = ""


def _digest(event: e.Event) -> str:
    return hashlib.blake2b(encode_event(event), digest_size=12).hexdigest()


def _writable(pool: Pool, subject: Subject) -> Run | str | None:
    """The run a publisher's event extends, None where it would be the first, or why it may not.

    Before RunSubmitted nobody knows whose key the run id comes from: the first to write has it, and
    loses it to the owner's RunSubmitted (S1).
    """
    run = pool.runs.get(subject.run)
    if run is None:
        return None
    if run.publisher != subject.owner:
        known = run.submitted is not None
        if not (known and subject.owner in pool.admins):
            return "not_owner"
    return "run_settled" if run.settled else run


def _close_if_complete(run: Run, sequence: int) -> None:
    sealed = run.sealed
    if run.submitted is None or sealed is None or len(run.parts) < sealed.parts or run.invalid:
        return
    if len(run.parts) > sealed.parts or run.size != sealed.tasks:
        run.invalid = (
            f"sealed with {sealed.parts} parts and {sealed.tasks} tasks, "
            f"got {len(run.parts)} and {run.size}"
        )
        return
    run.closed = True
    run.closed_at = sequence


def _end(pool: Pool, run: Run, verdict: str) -> None:
    """The run is over; attempts that awaited a ruling of it get none."""
    run.settled = verdict
    orphans = [a for task in run.tasks.values() for a in task.open if a.orphaned]
    for attempt in orphans:
        close_attempt(pool, attempt)
    run.drop_content()


def run_submitted(
    pool: Pool, subject: Subject, event: e.RunSubmitted, sequence: int, index: int
) -> str:
    """The run has an owner and a name; what a stranger put under its id is dropped."""
    if subject.run != run_id(subject.owner, event.key):
        return "bad_run_id"
    digest = _digest(event)
    run = pool.runs.get(subject.run)
    if run is not None and run.submitted is not None:
        return "duplicate" if run.digest == digest else "conflict"
    if run is not None and run.publisher != subject.owner:
        _end(pool, run, "replaced")
        run = None
    if run is None:
        run = pool.runs[subject.run] = Run(subject.run, subject.owner, sequence)
    elif run.settled:
        return "run_settled"
    run.submitted = event
    run.digest = digest
    _close_if_complete(run, sequence)
    return VALID


def _part_problem(run: Run | None, event: e.TasksSubmitted) -> str | None:
    """Why the part can never be run, or None."""
    problem = spec_problem(event.spec) or array_problem(event.items, event.axes, event.count)
    if problem or run is None:
        return problem
    if event.group in run.groups:
        return "there is another group of this name in the run"
    if run.size + array_length(event.items, event.axes, event.count) > RUN_TASKS_MAX:
        return f"a run holds at most {RUN_TASKS_MAX} tasks"
    return None


def tasks_submitted(
    pool: Pool, subject: Subject, event: e.TasksSubmitted, sequence: int, index: int
) -> str:
    """The part belongs to the run. One that makes no sense dooms its run, once there is one."""
    run = _writable(pool, subject)
    if isinstance(run, str):
        return run
    digest = _digest(event)
    if run is not None:
        known = run.parts.get(event.part)
        if known is not None:
            return "duplicate" if known == digest else "conflict"
        if run.closed:
            return "run_closed"
    problem = _part_problem(run, event)
    if problem is not None:
        doom(run, f"part {event.part}, group {event.group}: {problem}")
        return "bad_part"
    group = Group(event)
    if run is None:
        run = pool.runs[subject.run] = Run(subject.run, subject.owner, sequence)
    run.parts[event.part] = digest
    run.groups[event.group] = group
    run.size += group.size
    _close_if_complete(run, sequence)
    return VALID


def doom(run: Run | None, reason: str) -> None:
    """The leader must reject the run, if it is still open. The only trace a void event leaves."""
    if run is not None and not (run.closed or run.settled or run.invalid):
        run.invalid = reason[:256]


def undecodable(pool: Pool, subject: Subject, element: Undecodable) -> None:
    """What could not be read may have been a part: the run of its writer is doomed (S2)."""
    run = _writable(pool, subject)
    if isinstance(run, Run):
        doom(run, f"{element.reason}: {element.detail}")


def run_sealed(pool: Pool, subject: Subject, event: e.RunSealed, sequence: int, index: int) -> str:
    """How much belongs to the run is known."""
    run = _writable(pool, subject)
    if isinstance(run, str):
        return run
    if run is None:
        run = pool.runs[subject.run] = Run(subject.run, subject.owner, sequence)
    if run.sealed is not None:
        return "duplicate" if run.sealed == event else "conflict"
    run.sealed = event
    _close_if_complete(run, sequence)
    return VALID


def cancel_requested(
    pool: Pool, subject: Subject, event: e.CancelRequested, sequence: int, index: int
) -> str:
    """The leader must end the run, or the task; finishes that land later do not count (A8)."""
    run = pool.runs.get(subject.run)
    if run is None:
        return "unknown_run"
    if subject.owner != run.publisher and subject.owner not in pool.admins:
        return "not_owner"
    if run.settled:
        return "run_settled"
    if event.task is None:
        if run.cancel_at:
            return "duplicate"
        run.cancel_at = sequence
        return VALID
    found = run.find(event.task)
    if found is None:
        return "unknown_task"
    if found[0].verdicts[found[1]]:
        return "already_settled"
    if run.cancel_at or event.task in run.cancel_tasks:
        return "duplicate"
    run.cancel_tasks[event.task] = sequence
    return VALID


# -- rulings of the leader on whole runs -----------------------------------------------------------
def run_settled(
    pool: Pool, subject: Subject, event: e.RunSettled, sequence: int, index: int
) -> str:
    """The run is over, and nothing after it counts (F13)."""
    if event.term != pool.term:
        return "term"
    run = pool.runs.get(subject.run)
    if run is None:
        return "unknown_run"
    if run.settled:
        return "run_settled"
    if not run.closed and event.verdict not in ("incomplete", "cancelled"):
        return "run_open"
    if run.closed and event.verdict == "incomplete":
        return "run_closed"
    if (run.closed or run.streams) and run.settled_tasks < run.size:
        return "unsettled_tasks"
    if run.closed and event.verdict != "cancelled" and (event.verdict == "empty") != (not run.size):
        return "verdict"  # S2: without tasks a run is empty, never passed
    if event.counts != run.counts:
        return "counts"
    _end(pool, run, event.verdict)
    return VALID


def submission_rejected(
    pool: Pool, subject: Subject, event: e.SubmissionRejected, sequence: int, index: int
) -> str:
    """The publisher is told; a fatal one ends a run that is still open."""
    if event.term != pool.term:
        return "term"
    run = pool.runs.get(subject.run)
    if event.fatal and run is not None:
        if run.settled:
            return "run_settled"
        if run.closed:
            return "run_closed"
        _end(pool, run, "rejected")
    return VALID


def run_forgotten(
    pool: Pool, subject: Subject, event: e.RunForgotten, sequence: int, index: int
) -> str:
    """The key may be used again (S5)."""
    if event.term != pool.term:
        return "term"
    run = pool.runs.get(subject.run)
    if run is None or not run.settled:
        return "unknown_run"
    del pool.runs[subject.run]
    return VALID
