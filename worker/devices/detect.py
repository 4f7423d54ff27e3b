"""What this machine has. Rule: ask the machine, one question at a time; a question that fails
hides no other answer.

Nothing is invented: what cannot be found out is left out. Slow or crash-prone questions (drivers)
are asked in a process of their own with a time limit.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import NamedTuple

from ...core.ids import is_name
from ...core.model import Device
from .nvidia import nvidia_devices

CGROUP = Path("/sys/fs/cgroup")


class Detected(NamedTuple):
    """Facts of the machine, for `WorkerJoined`."""

    cpu_milli: int
    memory_bytes: int
    devices: list[Device]
    platform: dict[str, str]


def detect(*, ask_drivers: bool = True) -> Detected:
    """Everything about this machine. Takes up to some seconds where drivers are slow: call it in
    a thread.
    """
    return Detected(
        cpu_milli(), memory_bytes(), nvidia_devices() if ask_drivers else [], platform_facts()
    )


def cpu_milli(root: Path = CGROUP) -> int:
    """Thousandths of a core this process may use: the lesser of its affinity and its cgroups'
    quotas.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this platform
        cores = os.cpu_count() or 1
    limits = [cores * 1000]
    for folder in cgroup_folders("cpu", root):
        quota = _quota(folder)
        if quota is not None:
            limits.append(quota)
    return max(1, min(limits))


def _quota(folder: Path) -> int | None:
    """Thousandths of a core a cgroup grants, by version 2 ("max 100000") or version 1 (quota and
    period).
    """
    words = _read(folder / "cpu.max").split()
    if len(words) == 2 and words[0].isdigit():
        return int(words[0]) * 1000 // int(words[1])
    quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    if quota.isdigit() and period.isdigit() and int(period):
        return int(quota) * 1000 // int(period)
    return None


def memory_bytes(root: Path = CGROUP) -> int:
    """Main memory this process may use: the lesser of the machine's and its cgroups' limits."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder in cgroup_folders("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name)
            if text.isdigit():
                limits.append(int(text))
    return min(limits)


def cgroup_folders(controller: str, root: Path = CGROUP, own: str | None = None) -> list[Path]:
    """The cgroup this process is in and all above it, for a controller; versions 1 and 2, mixed
    too.
    """
    text = own if own is not None else _read(Path("/proc/self/cgroup"))
    folders: list[Path] = []
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / controller if controllers else root
        if controllers and not top.is_dir():
            top = root / controllers
        inside = Path(path.lstrip("/"))
        folders += [top / inside, *(top / parent for parent in inside.parents)]
    return folders


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""


def platform_facts() -> dict[str, str]:
    """Words about the machine for people and for matching: at most 256 characters each."""
    facts = {
        "system": sys.platform,
        "machine": platform.machine(),
        "release": platform.release(),
        "python": platform.python_version(),
        "cpu": cpu_model(),
        "cores": str(os.cpu_count() or ""),
        "host": platform.node(),
        "libc": "-".join(platform.libc_ver()).strip("-"),
    }
    return {name: text[:256] for name, text in facts.items() if text}


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, or "" where it is not told."""
    names = ("model name", "Hardware", "Model", "cpu model")
    for line in _read(cpuinfo).splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names and value.strip():
            return value.strip()
    return platform.processor() if platform.processor() not in ("", platform.machine()) else ""


def with_declared(devices: list[Device], declared: tuple[str, ...]) -> list[Device]:
    """The devices, and one for each class its operator declared without naming a device: a task
    that asks for the class asks for a device of it.
    """
    known = {"cpu", *(device.hardware for device in devices)}
    missing = [name for name in dict.fromkeys(declared) if name not in known]
    return devices + [
        Device(id=f"{name}:0", hardware=name, index=0, level="declared") for name in missing
    ]


def hardware_classes(devices: list[Device], declared: tuple[str, ...]) -> list[str]:
    """The accelerator classes a worker serves: the CPU, what its devices are, and what its
    operator declared.
    """
    classes = ["cpu", *(device.hardware for device in devices), *declared]
    return [name for name in dict.fromkeys(classes) if is_name(name)]
