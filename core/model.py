"""The values events are made of.

Rule: plain frozen data with units in the names; absent means unknown, never zero.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, cast

import msgspec
from msgspec import Meta, Raw, Struct

from .ids import NAME_PATTERN

ABSENT = Raw(b"")
"""No JSON value at all. msgspec cannot decode `Raw | None`; always use this very object, which
encoders leave out."""
Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Priority = Annotated[int, Meta(ge=-100, le=100)]
Text = Annotated[str, Meta(max_length=256)]
"""A reason or title: bounded, so that leader events are bounded by construction (protocol L6)."""
Millis = Annotated[int, Meta(ge=0, le=2**40)]

HARDWARE = (
    "cpu",
    "cuda",
    "rocm",
    "mps",
    "xpu",
    "openvino",
    "qnn",
    "directml",
    "webgpu",
    "webnn",
    "wasm",
)
"""The accelerator classes this version knows. The log accepts any token; borders refuse what is not
listed here."""


class Verdict(StrEnum):
    """What a task or a case ended as."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    FALLBACK = "fallback"
    """It ran, but not where it was asked to run."""
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    NO_CAPACITY = "no_capacity"
    """No worker of the pool could ever run it."""
    ERROR = "error"
    """Infrastructure or set-up failed; it says nothing about the tested thing."""


class Cause(StrEnum):
    """Why an attempt ended so, or why a task was settled without one."""

    DONE = "done"
    TEST = "test"
    """The test itself said no: exit code, assertion, failed case."""
    CRASH = "crash"
    """A signal ended the test's process, or the interpreter died."""
    MEMORY = "memory"
    FALLBACK = "fallback"
    WALL_LIMIT = "wall_limit"
    SILENCE_LIMIT = "silence_limit"
    QUEUE_LIMIT = "queue_limit"
    CANCELLED = "cancelled"
    WORKER_LOST = "worker_lost"
    NEVER_RECEIVED = "never_received"
    RETURNED = "returned"
    SETUP = "setup"
    """Bundle, scratch directory or environment could not be made."""
    CONFIG = "config"
    """The task cannot run as written: no such file, callable or program."""
    DEVICE = "device"
    NO_CAPACITY = "no_capacity"
    SCHEDULER_BUG = "scheduler_bug"


INFRASTRUCTURE = frozenset({Cause.WORKER_LOST, Cause.NEVER_RECEIVED, Cause.SETUP, Cause.DEVICE})
"""Causes that say nothing about the test: retried on the `infra_retries` budget."""
UNRETRIED = frozenset({Cause.CANCELLED, Cause.CONFIG, Cause.NO_CAPACITY, Cause.QUEUE_LIMIT})
"""Causes a retry cannot mend."""


class Requirement(
    Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What a worker must have for a task. Every field is a hard filter."""

    hardware: Name = "cpu"
    """Accelerator class."""
    labels: dict[str, str] = {}
    """Every pair must be among the worker's labels."""
    cpu_milli: Annotated[int, Meta(ge=0, le=10_000_000)] = 1000
    """Thousandths of a core, reserved for the attempt."""
    memory_bytes: Count = 0
    """Main memory reserved for the attempt; 0 reserves none."""
    devices: Annotated[int, Meta(ge=0, le=1024)] | None = None
    """Devices of the class, reserved whole; None means none for `cpu`, one for every other."""
    device_memory_bytes: Count = 0
    """Each reserved device must have at least this much memory."""

    @property
    def device_count(self) -> int:
        if self.devices is not None:
            return self.devices
        return 0 if self.hardware == "cpu" else 1


class TaskSpec(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How every task of a group is run. Parameters differ by task, the specification does not."""

    runner: Literal["command", "python", "pytest"] = "command"
    command: list[str] = []
    """Runner `command`: argument vector; "{name}" is replaced by the parameter of that name."""
    target: str = ""
    """Runner `python`: "module:callable", or "path/to/script.py", looked up in the bundle first."""
    args: list[str] = []
    """Runner `pytest`: options as on its command line; the files are the task's parameters."""
    isolation: Literal["process", "none", "file", "case"] = "process"
    """What shares a process. `process`: nothing, each attempt has its own. `none`, runner `python`:
    a trusted callable in the agent's interpreter: fastest, no kill, no limits. `none`, runner
    `pytest`: the attempts of one run in one slot, as in plain pytest. `file`, `case`: runner
    `pytest`, a process for each."""
    start: Literal["auto", "fork", "spawn"] = "auto"
    """How a process of runner `python` or `pytest` begins: forked from a warm parent, or anew.
    `auto` forks where that is safe."""
    preload: list[str] = []
    """Modules the warm parent imports before it forks; few, and none that starts threads."""
    env: dict[str, str] = {}
    bundle: str | None = None
    """Digest of the working tree (`sha256:<hex>`), unpacked as the attempt's code directory."""
    directory: str = ""
    """Absolute path on the worker to run in, in place of a bundle: for workers that share the
    publisher's file system."""
    python: str = ""
    """Interpreter for runners `python` and `pytest`, an absolute path; "" is the worker's own."""
    history: Text = ""
    """Name under which the pool remembers the durations of its cases; "" for none."""
    artifacts: list[str] = []
    """Globs below the scratch directory; what matches is stored, also when the attempt fails."""
    require: Requirement = Requirement()
    wall_ms: Annotated[int, Meta(ge=1, le=2**40)] = 3_600_000
    """Wall-clock limit of one attempt."""
    silence_ms: Annotated[int, Meta(ge=1, le=2**40)] | None = None
    """Limit without any output; None means no such limit."""
    queue_ms: Annotated[int, Meta(ge=1, le=2**40)] | None = None
    """Limit from submission to first assignment; None waits for ever."""
    grace_ms: Millis = 5_000
    """Time between the soft kill and the hard kill."""
    retries: Annotated[int, Meta(ge=0, le=100)] = 0
    """Further attempts after the test itself failed, crashed or ran past a limit."""
    infra_retries: Annotated[int, Meta(ge=0, le=100)] = 2
    """Further attempts after a cause of the infrastructure; their own budget."""
    allow_fallback: bool = False
    """Accept that the test ran elsewhere than on the hardware it was asked for."""


def spec_problem(spec: TaskSpec) -> str | None:
    """Why a well-typed specification still makes no sense, or None.

    Shared by border and fold, hence pure.
    """
    if spec.directory and spec.bundle is not None:
        return "give 'directory' or 'bundle', not both"
    for what, path in (("directory", spec.directory), ("python", spec.python)):
        if path and "\0" in path:
            return f"{what!r} is no path: {path!r}"
    if spec.runner == "command":
        if not spec.command or not spec.command[0]:
            return "runner 'command' needs a non-empty 'command' list"
        if spec.isolation != "process":
            return f"isolation {spec.isolation!r} is not for runner 'command'"
    elif spec.runner == "pytest":
        return None
    elif spec.isolation in ("file", "case"):
        return f"isolation {spec.isolation!r} is for runner 'pytest' only"
    elif not spec.target:
        return "runner 'python' needs 'target', such as 'module:callable' or 'script.py'"
    elif spec.isolation == "none" and ":" not in spec.target:
        return f"isolation 'none' needs a callable as 'module:callable', got target {spec.target!r}"
    return None


class Device(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One accelerator of a worker.

    `id` is stable on the host (a UUID where the driver gives one).
    """

    id: Text
    hardware: Name
    name: Text = ""
    index: int | None = None
    memory_bytes: Count | None = None
    driver: Text | None = None
    level: Literal["declared", "detected", "verified"] = "detected"


class Usage(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What an attempt used, measured by the worker. None where the platform could not tell."""

    cpu_us: Count | None = None
    peak_rss_bytes: Count | None = None


class Placement(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a test says it ran, against where it was asked to."""

    requested: Text
    actual: Text
    detail: Text = ""


class Output(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Stored output of an attempt: stdout and stderr merged in order of arrival."""

    digest: str | None = None
    """Blob with the whole output; None when there was none or it could not be stored."""
    bytes: Count = 0
    truncated: bool = False
    tail: Annotated[str, Meta(max_length=4096)] = ""


class Measurement(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A number a test reported: `value` in `unit`; `samples` are the raw values, if kept."""

    name: Text
    value: float
    unit: Annotated[str, Meta(max_length=64)] = ""
    case: str | None = None
    samples: list[float] | None = None


class Case(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One test inside a task."""

    id: Annotated[str, Meta(max_length=2048)]
    verdict: Verdict
    duration_us: Count | None = None
    message: Annotated[str, Meta(max_length=16384)] = ""
    tries: Annotated[int, Meta(ge=1, le=1000)] = 1
    """How often it ran in this attempt; more than once and passed: flaky."""
    detail: Raw = ABSENT
    """What its runner knows beyond this, a JSON object; runner `pytest`: its reports."""


class Held(Struct, frozen=True, kw_only=True, gc=False):
    """An attempt an agent still holds when it joins anew."""

    run: Name
    token: str


class Axis(Struct, frozen=True, kw_only=True):
    """One dimension of a matrix: `values` in order."""

    name: Name
    values: Annotated[list[Raw], Meta(min_length=1)]


GROUP_TASKS_MAX = 10_000_000
RUN_TASKS_MAX = 50_000_000
"""Most tasks of one group and of one run: bounds by rule, since running out of memory decides
differently on every machine (protocol F1)."""


def array_problem(
    items: list[Raw] | None, axes: list[Axis] | None, count: int | None
) -> str | None:
    """Why a well-typed array still makes no sense, or None. Shared by border and fold."""
    if sum(each is not None for each in (items, axes, count)) > 1:
        return "give one of items, axes and count"
    if axes is not None and len({axis.name for axis in axes}) < len(axes):
        return "two axes have the same name"
    if array_length(items, axes, count) > GROUP_TASKS_MAX:
        return f"a group holds at most {GROUP_TASKS_MAX} tasks"
    if items and not _all_objects(items):
        at = next(i for i, item in enumerate(items) if bytes(item)[:1] != b"{")
        return f"item {at} is not a JSON object"
    return None


def _all_objects(items: list[Raw]) -> bool:
    """Whether every item begins an object, at 0.03 us an item: NUL stands in no JSON text."""
    joined = b"\0".join(cast("list[bytes]", items))
    return joined.count(b"\0{") + joined.startswith(b"{") == len(items)


def array_length(items: list[Raw] | None, axes: list[Axis] | None, count: int | None) -> int:
    """How many tasks a group holds: the items, the product of the axes, the count, or one."""
    if items is not None:
        return len(items)
    if axes is not None:
        total = 1
        for axis in axes:
            total *= len(axis.values)
        return total
    return 1 if count is None else count


def axis_params(axes: list[Axis], index: int) -> dict[str, Raw]:
    """The parameters of task `index` of a matrix; the last axis turns fastest."""
    chosen: dict[str, Raw] = {}
    for axis in reversed(axes):
        index, position = divmod(index, len(axis.values))
        chosen[axis.name] = axis.values[position]
    return {axis.name: chosen[axis.name] for axis in axes}


def task_params(items: list[Raw] | None, axes: list[Axis] | None, index: int) -> Raw:
    """The parameters of task `index` of a group as one JSON object, not decoded.

    `ABSENT` for a plain count.
    """
    if items is not None:
        return items[index]
    if axes is not None:
        return Raw(msgspec.json.encode(axis_params(axes, index)))
    return ABSENT
