"""Does a worker fit a requirement? Rule: every field is a hard filter, and a misfit says why in
words.

Pure. Used by the scheduler for every pair of worker and requirement once, and by `dtf plan` to
explain.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..core.events import WorkerJoined
from ..core.model import Device, Requirement

WORKER_LABEL = "worker"
"""The label that every worker has: its name."""


def fitting_devices(devices: Iterable[Device], requirement: Requirement) -> list[Device]:
    """The devices of the required class with enough memory, in the worker's order.

    A device of unknown memory fits only a requirement that asks for none.
    """
    needed = requirement.device_memory_bytes
    return [
        device
        for device in devices
        if device.hardware == requirement.hardware
        and (not needed or (device.memory_bytes or 0) >= needed)
    ]


def worker_fits(worker: WorkerJoined, requirement: Requirement, name: str = "") -> list[str]:
    """Why the worker could never run such a task, one sentence each; empty when it could.

    `name` is the worker's: its label `worker`, whatever it says of itself, so that a requirement
    with that label pins a task to it.
    """
    reasons = []
    if requirement.hardware not in worker.hardware:
        served = ", ".join(worker.hardware) or "nothing"
        reasons.append(f"serves {served}, not {requirement.hardware}")
    for key, value in requirement.labels.items():
        have = name if key == WORKER_LABEL and name else worker.labels.get(key)
        if have != value:
            reasons.append(f"label {key} is {have or 'not set'}, not {value}")
    if requirement.cpu_milli > worker.cpu_milli:
        have_cores, cores = worker.cpu_milli / 1000, requirement.cpu_milli / 1000
        reasons.append(f"has {have_cores:g} cores, not {cores:g}")
    if requirement.memory_bytes > worker.memory_bytes:
        have_gib, gib = worker.memory_bytes / 2**30, requirement.memory_bytes / 2**30
        reasons.append(f"has {have_gib:.1f} GiB memory, not {gib:.1f}")
    wanted = requirement.device_count
    if wanted and not reasons:
        found = len(fitting_devices(worker.devices, requirement))
        if found < wanted:
            size = requirement.device_memory_bytes
            sized = f" of {size / 2**30:.1f} GiB or more" if size else ""
            reasons.append(f"has {found} {requirement.hardware} devices{sized}, not {wanted}")
    return reasons
