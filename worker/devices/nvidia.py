"""NVIDIA devices. Rule: the driver is asked in another process with a time limit; its hang or
crash is "none found".

First through NVML (the `pynvml` module), then through `nvidia-smi`. Memory, driver and name are
the driver's words.
"""

from __future__ import annotations

import csv
import logging
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ...core.model import Device

_devices = msgspec.json.Decoder(list[Device]).decode
log = logging.getLogger("dtf.worker")
LIMIT_S = 15.0
MIB = 1024 * 1024
QUERY = "uuid,index,name,memory.total,driver_version"
PROBE = """
import json, sys, warnings
warnings.simplefilter("ignore")
import pynvml as n
def text(value):
    return value.decode() if isinstance(value, bytes) else value
n.nvmlInit()
found = []
for index in range(n.nvmlDeviceGetCount()):
    handle = n.nvmlDeviceGetHandleByIndex(index)
    found.append({
        "id": text(n.nvmlDeviceGetUUID(handle)),
        "hardware": "cuda",
        "index": index,
        "name": text(n.nvmlDeviceGetName(handle)),
        "memory_bytes": n.nvmlDeviceGetMemoryInfo(handle).total,
        "driver": text(n.nvmlSystemGetDriverVersion()),
    })
json.dump(found, sys.stdout)
"""


def nvidia_devices() -> list[Device]:
    """The NVIDIA GPUs the driver lists; empty when there is no driver, or when it does not
    answer.
    """
    if not driver_present():
        return []
    return ask_nvml() or ask_smi()


def driver_present() -> bool:
    """Whether asking is worth a process: a driver's trace on this machine."""
    return (
        Path("/proc/driver/nvidia").exists()
        or Path("/dev/nvidiactl").exists()
        or Path("/dev/dxg").exists()
        or shutil.which("nvidia-smi") is not None
        or sys.platform == "win32"
    )


def ask_nvml(command: Sequence[str] = (sys.executable, "-c", PROBE)) -> list[Device]:
    """Devices as NVML tells them; empty on any failure."""
    try:
        return _devices(_answer(command) or "[]")
    except msgspec.DecodeError as error:
        log.info("%s: %s", command[0], error)
        return []


def ask_smi(command: Sequence[str] | None = None) -> list[Device]:
    """Devices as nvidia-smi tells them; empty on any failure."""
    if command is None:
        command = ("nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits")
    devices = []
    for row in csv.reader(_answer(command).splitlines(), skipinitialspace=True):
        if len(row) != 5:
            continue
        uuid, index, name, memory, driver = (cell.strip() for cell in row)
        devices.append(
            Device(
                id=uuid,
                hardware="cuda",
                name=name,
                index=int(index) if index.isdigit() else None,
                memory_bytes=int(memory) * MIB if memory.isdigit() else None,
                driver=driver or None,
            )
        )
    return devices


def _answer(command: Sequence[str]) -> str:
    """What a command prints; "" when it is not there, fails or takes too long."""
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
            text=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("%s: %s", command[0], error)
        return ""
    if done.returncode != 0:
        log.info("%s: exit status %s: %s", command[0], done.returncode, done.stderr.strip()[-500:])
        return ""
    return done.stdout
