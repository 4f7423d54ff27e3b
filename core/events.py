"""The event catalogue.

Rule: past tense, immutable, add-only; a field gets a default, a tag is never used again.

Identity comes from the subject: the pool, the publisher, the run or the worker of an event are the
tokens of the subject its message was stored under, and are not repeated in the payload. `WRITERS`
says which type belongs where.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct

from .model import (
    ABSENT,
    Axis,
    Case,
    Cause,
    Count,
    Device,
    Held,
    Measurement,
    Millis,
    Name,
    Output,
    Placement,
    Priority,
    TaskSpec,
    Text,
    Usage,
    Verdict,
)

FOLD_VERSION = 1
Token = Annotated[str, Meta(max_length=256)]


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag_field="type"):
    """One immutable fact. Encoded as a JSON object whose `type` is the class name."""


# -- admin, on dtf.P.pool --------------------------------------------------------------------------
class PoolCreated(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="PoolCreated"
):
    """The first event of a pool; everything before it is void."""

    uuid: Text
    name: Name


class PoolConfigured(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="PoolConfigured"
):
    """Settings the fold and the coordinators share. None leaves a setting as it was."""

    admins: list[Name] | None = None
    """Publishers that may cancel any run."""
    remember_ms: Annotated[int, Meta(ge=604_800_000)] | None = None
    """How long a settled run's key is remembered; at least 7 days."""
    incomplete_ms: Millis | None = None
    """How long a run may stay open before it is settled as incomplete."""


class DrainRequested(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="DrainRequested"
):
    """An operator takes a worker out of rotation, or back in.

    While it is out, running attempts end and nothing new is assigned.
    """

    worker: Name
    drain: bool = True
    reason: Text = ""


# -- publishers, on dtf.P.run.<publisher>.<run> ----------------------------------------------------
class RunSubmitted(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="RunSubmitted"
):
    """A publisher asks for a run. The run's id must be `ids.run_id(publisher, key)`.

    Best sent first: until it has landed, nobody knows whose run it is.
    """

    key: Annotated[str, Meta(min_length=1, max_length=256)]
    """The publisher's own word for this run, such as a commit and a job: one key is one run."""
    name: Text = ""
    """Title for people."""
    priority: Priority = 0
    """Higher runs first."""
    labels: dict[str, str] = {}
    """For queries, such as a branch; nothing is decided by them."""
    wait_for_capacity: bool = False
    """Keep tasks no living worker could ever run queued, not settled as no_capacity."""
    retry_of: Name | None = None
    """The run whose failures this one repeats."""
    streamed: bool = False
    """Tasks run as their parts land, and parts may follow from what came of earlier ones, until
    the run is sealed. Otherwise nothing runs before everything is in."""


class TasksSubmitted(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="TasksSubmitted"
):
    """A group of tasks with one specification.

    One task, an array of `count`, a list of parameters (`items`) or a matrix (`axes`).
    Set semantics: the same part twice is a duplicate, in any order. Task ids are "<group>-<index>".
    """

    part: Annotated[int, Meta(ge=0, le=1_000_000)]
    """Number of this part, from 0; its identity within the run."""
    group: Annotated[Name, Meta(max_length=52)]
    """Name of the group, unique in the run."""
    spec: TaskSpec
    label: Text = ""
    """Title of the group for people."""
    items: Annotated[list[Raw], Meta(min_length=1, max_length=1_000_000)] | None = None
    """Parameters (a JSON object each), one task an item."""
    axes: Annotated[list[Axis], Meta(min_length=1, max_length=16)] | None = None
    """Matrix: one task for each element of the product, last axis fastest."""
    count: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    """So many tasks without parameters."""


class RunSealed(Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="RunSealed"):
    """The run is complete when `parts` parts with `tasks` tasks together are in."""

    parts: Annotated[int, Meta(ge=0, le=1_000_001)]
    tasks: Count


class CancelRequested(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="CancelRequested"
):
    """The owner or an admin cancels one task, or the whole run (`task` is None)."""

    task: Annotated[str, Meta(max_length=128)] | None = None
    reason: Text = ""


# -- workers, on dtf.P.worker.<worker> -------------------------------------------------------------
class WorkerJoined(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="WorkerJoined"
):
    """An agent joins as a new incarnation; it supersedes an older one of the same name."""

    incarnation: Name
    hardware: list[Name]
    """Accelerator classes it serves."""
    cpu_milli: Count
    memory_bytes: Count
    devices: list[Device] = []
    labels: dict[str, str] = {}
    prefetch: Annotated[int, Meta(ge=0, le=4096)] = 512
    """Most assignments it queues beyond those it runs."""
    platform: dict[str, str] = {}
    version: Text = ""
    held: list[Held] = []
    """Attempts it still holds from its previous incarnation; they reserve until ended."""
    server_id: Text | None = None
    client_id: int | None = None
    """Its broker connection, so that a DISCONNECT can be matched (protocol W6)."""


class WorkerDraining(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="WorkerDraining"
):
    """The agent takes no new work; what runs, ends."""

    incarnation: Name
    reason: Text = ""


class WorkerLeft(Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="WorkerLeft"):
    """The incarnation ended by itself; attempts it still had are over."""

    incarnation: Name
    reason: Text = ""


# -- workers, on dtf.P.attempt.<worker>.<run> ------------------------------------------------------
class AttemptStarted(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="AttemptStarted"
):
    """The attempt's process runs. Left out when a short attempt finishes before this was sent."""

    token: Token
    n: Count = 0


class CasesReported(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="CasesReported"
):
    """Cases and measurements of an attempt, as they come.

    Provisional until the task is settled by this attempt.
    """

    token: Token
    n: Count
    cases: list[Case] = []
    measurements: list[Measurement] = []
    truncated: bool = False
    """The agent dropped or shortened what was too large."""


class CasesCollected(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="CasesCollected"
):
    """The cases an attempt found in one file, before it runs them."""

    token: Token
    n: Count
    file: Annotated[str, Meta(max_length=2048)]
    selected: Count
    """Cases of the file that the task's selection leaves, of all shards together."""
    deselected: Count = 0
    digest: Text = ""
    """First 16 hex digits of the SHA-256 over their ids, joined by newlines: machines that collect
    other cases from the same code show a difference."""
    ids: list[Annotated[str, Meta(max_length=2048)]] = []
    """Their ids in order, where the task asked for them."""
    scoped: bool = False
    """Fixtures of a module, class or package are in use: splitting the file sets them up again."""


class ArtifactStored(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="ArtifactStored"
):
    """A file of the attempt is in the blob store."""

    token: Token
    n: Count
    path: Annotated[str, Meta(max_length=1024)]
    """Below the scratch directory, with forward slashes."""
    digest: Text
    bytes: Count


class AttemptReturned(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="AttemptReturned"
):
    """The attempt ended before it started: given back on request, or refused by the agent."""

    token: Token
    n: Count = 0
    reason: Text = ""


class AttemptFinished(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="AttemptFinished"
):
    """The attempt is over; its last event. It ends the attempt, not the task."""

    token: Token
    n: Count = 0
    verdict: Verdict
    cause: Cause = Cause.DONE
    duration_us: Count
    """Wall time on the worker's monotonic clock, from start to end."""
    exit_code: int | None = None
    """Negative: the signal that ended it."""
    message: Annotated[str, Meta(max_length=4096)] = ""
    value: Raw = ABSENT
    """What a Python callable returned, as JSON; `ABSENT` when none. At most 64 KiB, else left out
    and said in `message`."""
    usage: Usage | None = None
    placement: Placement | None = None
    output: Output | None = None


# -- the leader ------------------------------------------------------------------------------------
class LeaderElected(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="LeaderElected"
):
    """On dtf.P.leader. Valid iff term = last valid term + 1: the log elects (protocol L1)."""

    term: Count
    coordinator: Name
    nonce: Name
    fold_version: Count = FOLD_VERSION


class SubmissionRejected(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="SubmissionRejected"
):
    """On dtf.P.ruling.<run>. Why a submission does not count; an open run is over by it."""

    term: Count
    reason: Text
    sequence: Count | None = None
    index: Count | None = None
    """Position of the refused event, where there is one."""
    fatal: bool = False
    """The run itself is rejected, not just a duplicate or stray event."""


class TaskAssigned(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="TaskAssigned"
):
    """On dtf.P.assign.<hardware>.<worker>.

    The worker may start the attempt; its devices are reserved from here.
    """

    term: Count
    run: Text
    token: Token
    incarnation: Text
    devices: list[str] = []
    spec: TaskSpec | None = None
    """Sent with the first assignment of a group to an incarnation; the agent keeps it by (run,
    group)."""
    params: Raw = ABSENT
    """Parameters of the task, a JSON object; `ABSENT` when it has none."""


class AttemptRevoked(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="AttemptRevoked"
):
    """On dtf.P.assign._.<worker>.

    A request to give an attempt back (steal, before its start only) or to kill it.
    """

    term: Count
    run: Text
    token: Token
    mode: Literal["steal", "cancel"]


class WorkerLost(Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="WorkerLost"):
    """On dtf.P.assign._.<worker>.

    The incarnation is over; each of its attempts gets a ruling of its own.
    """

    term: Count
    incarnation: Text
    reason: Text = ""


class TaskRequeued(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="TaskRequeued"
):
    """On dtf.P.ruling.<run>.

    The task waits again; the named attempt is closed unless kept open. Of a settled task the
    attempt is closed, and nothing waits.
    """

    term: Count
    token: Token
    cause: Cause
    delay_ms: Millis = 0
    keep_open: bool = False


class TaskSettled(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="TaskSettled"
):
    """On dtf.P.ruling.<run>.

    The task is over: by the accepted finish (token and position), or by a cause.
    """

    term: Count
    task: Annotated[str, Meta(max_length=128)]
    verdict: Verdict
    cause: Cause = Cause.DONE
    token: Token | None = None
    """The attempt whose finish was accepted; without `at`, the one that is closed as lost."""
    at: tuple[int, int] | None = None
    """Position (sequence, index) of the accepted AttemptFinished."""


class RangeSettled(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="RangeSettled"
):
    """On dtf.P.ruling.<run>.

    Every unsettled task of the group in [start, stop) that has neither an open attempt nor a finish
    is over by `cause`: arrays stay compact.
    """

    term: Count
    group: Name
    start: Count
    stop: Count
    verdict: Verdict
    cause: Cause
    message: Text = ""


class RunSettled(Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="RunSettled"):
    """On dtf.P.ruling.<run>. Every task is settled; nothing after it is valid."""

    term: Count
    verdict: Literal["passed", "failed", "incomplete", "empty", "cancelled"]
    counts: dict[str, int]


class RunForgotten(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="RunForgotten"
):
    """On dtf.P.ruling.<run>. The settled run's key may be used again."""

    term: Count


# -- telemetry (DTF_P_TELEMETRY, outside the fold) -------------------------------------------------
class Heartbeat(Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="Heartbeat"):
    """On dtf.P.beat.<worker>, every second.

    Also the leader's own beat, on dtf.P.health.<coordinator>.
    """

    incarnation: Name
    sequence: Count = 0
    """Last log sequence this agent has read."""
    held: list[str] = []
    """Tokens of every attempt it holds, as "run/token"."""
    running: Count = 0
    cpu_percent: float | None = None
    memory_bytes: Count | None = None
    load1: float | None = None
    server_id: Text | None = None
    client_id: int | None = None


class OutputChunk(
    Event, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="OutputChunk"
):
    """On dtf.P.output.<run>.<task>.<attempt>. Live output in order; `n` counts chunks from 0."""

    n: Count
    stream: Literal["stdout", "stderr"] = "stdout"
    text: str = ""
    last: bool = False


PublisherEvent = RunSubmitted | TasksSubmitted | RunSealed | CancelRequested
WorkerEvent = WorkerJoined | WorkerDraining | WorkerLeft
AttemptEvent = (
    AttemptStarted
    | CasesReported
    | CasesCollected
    | ArtifactStored
    | AttemptReturned
    | AttemptFinished
)
LogEvent = (
    PoolCreated
    | PoolConfigured
    | DrainRequested
    | PublisherEvent
    | WorkerEvent
    | AttemptEvent
    | LeaderElected
    | SubmissionRejected
    | TaskAssigned
    | AttemptRevoked
    | WorkerLost
    | TaskRequeued
    | TaskSettled
    | RangeSettled
    | RunSettled
    | RunForgotten
)
TelemetryEvent = Heartbeat | OutputChunk
AnyEvent = LogEvent | TelemetryEvent

WRITERS: dict[str, frozenset[type[Event]]] = {
    "pool": frozenset({PoolCreated, PoolConfigured, DrainRequested}),
    "run": frozenset({RunSubmitted, TasksSubmitted, RunSealed, CancelRequested}),
    "worker": frozenset({WorkerJoined, WorkerDraining, WorkerLeft}),
    "attempt": frozenset(
        {
            AttemptStarted,
            CasesReported,
            CasesCollected,
            ArtifactStored,
            AttemptReturned,
            AttemptFinished,
        }
    ),
    "assign": frozenset({TaskAssigned, AttemptRevoked, WorkerLost}),
    "ruling": frozenset(
        {SubmissionRejected, TaskRequeued, TaskSettled, RangeSettled, RunSettled, RunForgotten}
    ),
    "leader": frozenset({LeaderElected}),
}
"""Kind of subject -> the event types that belong there (protocol F5)."""
