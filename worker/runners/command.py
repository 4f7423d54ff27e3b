"""Runner `command`: the argument vector and the environment of a task. Rule: pure; says what to
run, runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from ...core.model import ABSENT, Device, TaskSpec, spec_problem
from ...core.placeholders import fill_in
from ..attempt import Attempt

PARAMS_BYTES_MAX = 96 * 1024
"""Linux takes at most 128 KiB in one environment variable."""


def spec_refusal(spec: TaskSpec) -> str | None:
    """Why this specification can never run here, whatever the parameters."""
    problem = spec_problem(spec)
    if problem is None and spec.runner == "python" and spec.isolation == "none":
        if spec.env:
            problem = "isolation 'none' cannot set 'env'; use isolation 'process'"
        elif spec.artifacts:
            problem = (
                "isolation 'none' has no scratch directory to take 'artifacts' from; "
                "use isolation 'process'"
            )
    return problem


class BadTask(Exception):
    """The task cannot run as written; the text is for its author."""


def parameters(attempt: Attempt) -> dict[str, object]:
    """The task's parameters, decoded. Raises `BadTask` when they are no JSON object."""
    if attempt.params is ABSENT:
        return {}
    try:
        return msgspec.json.decode(attempt.params, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise BadTask(f"the parameters are no JSON object: {error}") from error


def command_line(attempt: Attempt, params: Mapping[str, object]) -> list[str]:
    """The command with its parameters filled in. Raises `BadTask` for one that the task does not
    have.
    """
    try:
        return [fill_in(word, params) if "{" in word else word for word in attempt.spec.command]
    except KeyError as error:
        raise BadTask(f"the command names the parameter {error}, which the task has not") from error


def task_environment(
    attempt: Attempt,
    params: Mapping[str, object],
    scratch: str,
    bundle: str,
    devices: Mapping[str, Device],
) -> dict[str, str]:
    """What a task's process finds in its environment beside the agent's own. Raises `BadTask`."""
    given = bytes(attempt.params) if attempt.params is not ABSENT else b"{}"
    if len(given) > PARAMS_BYTES_MAX:
        raise BadTask(
            f"the parameters have {len(given)} bytes, more than {PARAMS_BYTES_MAX}; "
            "put them into a file of the bundle"
        )
    spec = attempt.spec
    environment = {
        "DTF_RUN": attempt.run,
        "DTF_TASK": attempt.task,
        "DTF_ATTEMPT": str(attempt.number),
        "DTF_PARAMS": given.decode("utf-8", "replace"),
        "DTF_SCRATCH": scratch,
        "DTF_REPORT": report_path(scratch),
        "DTF_HARDWARE": spec.require.hardware,
        "DTF_DEVICES": ",".join(attempt.devices),
        "DTF_BUNDLE": bundle,
        "PYTHONUNBUFFERED": "1",
    }
    if devices:
        environment |= visible_devices(attempt.devices, devices)
    try:
        for name, text in spec.env.items():
            environment[name] = fill_in(text, params)
            if "\0" in environment[name] or "\0" in name or "=" in name or not name:
                raise BadTask(f"the environment variable {name!r} cannot be set")
    except KeyError as error:
        raise BadTask(
            f"env {name!r} names the parameter {error}, which the task has not"
        ) from error
    return environment


def report_path(scratch: str) -> str:
    """Where the task reports; beside its scratch directory, so that no glob finds it."""
    return scratch + ".report"


def output_path(scratch: str) -> str:
    """Where long output is stored until it is in the blob store."""
    return scratch + ".output"


def visible_devices(wanted: list[str], known: Mapping[str, Device]) -> dict[str, str]:
    """The variables that hide from a task every GPU it was not given. Nothing where the worker
    has none.
    """
    variables: dict[str, str] = {}
    for hardware, name in VISIBLE.items():
        if any(device.hardware == hardware for device in known.values()):
            mine = [known[i] for i in wanted if i in known and known[i].hardware == hardware]
            variables[name] = ",".join(_visible_name(device) for device in mine)
    return variables


VISIBLE = {"cuda": "CUDA_VISIBLE_DEVICES", "rocm": "ROCR_VISIBLE_DEVICES"}


def _visible_name(device: Device) -> str:
    if device.id.startswith(("GPU-", "MIG-")) or device.index is None:
        return device.id
    return str(device.index)


def source_folder(bundle: Path | None, scratch: str) -> str:
    """Where the task starts: in its code, or in its scratch directory when it brought none."""
    return str(bundle) if bundle is not None else scratch
