"""`dtf doctor`. Rule: what was found, and for everything missing the way to mend it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..core.errors import DtfError, Unavailable
from ..core.exit_codes import ExitCode
from ..core.listing import Column, Listing
from ..core.model import HARDWARE
from ..core.session import current
from .formats import cores, size

if TYPE_CHECKING:
    from ..core.config import Config
    from ..worker.devices.detect import Detected

DISK_LEAST = 1024**3


class Check(NamedTuple):
    """One answer. `state`: ok, warning, missing (must be mended) or absent (not on this one)."""

    name: str
    state: str
    found: str
    fix: str = ""


async def doctor() -> Listing:
    """What this machine can test and what it cannot, with the way to mend what is missing."""
    import anyio.to_thread

    config = current().config
    from ..worker.devices.detect import detect

    detected = await anyio.to_thread.run_sync(detect)
    checks = [_python(), _server_binary(), _data_dir(config), _disk(config)]
    checks += [_machine(detected), *_hardware(detected)]
    reached, code = await _reach(config)
    checks += reached
    if any(check.state == "missing" for check in checks) and code is ExitCode.PASSED:
        code = ExitCode.FAILED
    columns = [Column(name="check"), Column(name="state", kind="state")]
    columns += [Column(name="found", wraps=True), Column(name="fix", wraps=True)]
    return Listing(
        kind="doctor",
        columns=columns,
        rows=[[check.name, check.state, check.found, check.fix] for check in checks],
        exit_code=code,
    )


def _python() -> Check:
    found = f"{platform.python_version()} at {sys.executable}"
    return Check("python", "ok", found)


def _server_binary() -> Check:
    from ..core.server import find_binary

    try:
        binary = find_binary()
        told = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10)
    except DtfError as error:
        return Check("nats-server", "missing", str(error), error.remedy)
    except (OSError, subprocess.SubprocessError) as error:
        return Check("nats-server", "missing", f"does not run: {error}", "Install it again.")
    return Check("nats-server", "ok", told.stdout.strip().rpartition(" ")[2] + f" at {binary}")


def _data_dir(config: Config) -> Check:
    directory = config.data_dir
    there = next(path for path in (directory, *directory.parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        fix = "Name another one: --data-dir, DTF_DATA_DIR, or data_dir in dtf.toml."
        return Check("data directory", "missing", f"{there} is not writable", fix)
    return Check("data directory", "ok", f"{directory}{'' if there == directory else ' (new)'}")


def _disk(config: Config) -> Check:
    directory = config.data_dir
    there = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(there).free
    found = f"{size(free)} free"
    if free < DISK_LEAST:
        fix = f"Free some, or name a --data-dir elsewhere; runs need {size(DISK_LEAST)} or more."
        return Check("disk", "warning", found, fix)
    return Check("disk", "ok", found)


def _machine(detected: Detected) -> Check:
    found = f"{cores(detected.cpu_milli)} cores, {size(detected.memory_bytes)} memory"
    system = f"{platform.system()} {platform.machine()}"
    return Check("hardware cpu", "ok", f"{found}, {system}")


def _hardware(detected: Detected) -> list[Check]:
    """One check for each accelerator class but the processor."""
    checks = []
    for name in HARDWARE:
        if name == "cpu":
            continue
        devices = [device for device in detected.devices if device.hardware == name]
        if devices:
            told = ", ".join(f"{d.name or d.id} {size(d.memory_bytes)}" for d in devices)
            checks.append(Check(f"hardware {name}", "ok", told))
        else:
            found, fix = _ABSENT.get(name, _unknown)()
            checks.append(Check(f"hardware {name}", "absent", found, fix))
    return checks


Reason = tuple[str, str]


def _cuda() -> Reason:
    from ..worker.devices.nvidia import driver_present

    if driver_present():
        return "a driver, but it lists no device", "See what `nvidia-smi` says."
    return "no NVIDIA driver", "Install the driver; then `nvidia-smi` lists the GPU."


def _packaged(package: str, module: str, install: str) -> Callable[[], Reason]:
    """A class that is served by a package on the processor or through a vendor's runtime."""

    def reason() -> Reason:
        if find_spec(module) is None:
            return f"the package {package} is not installed", f"pip install {install}"
        declared = "Serve it with: dtf-worker run --hardware " + package.partition("-")[0]
        return f"{package} {_version(package)} is installed; not detected by itself", declared

    return reason


def _platform(wanted: str, what: str) -> Callable[[], Reason]:
    return lambda: (f"{what}; this is {platform.system()} {platform.machine()}", f"Needs {wanted}.")


def _browser() -> Reason:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((name for name in names if shutil.which(name)), None)
    if found is None:
        return "no Chromium on PATH", "Install Chromium, then declare it: --hardware webgpu"
    return f"{found} is here; not detected by itself", "Declare it: dtf-worker run --hardware ..."


def _rocm() -> Reason:
    if Path("/dev/kfd").exists():
        return "an AMD compute device; not detected by itself", "dtf-worker run --device rocm:0"
    return "no AMD compute driver (/dev/kfd)", "Install ROCm; then declare it: --device rocm:0"


def _xpu() -> Reason:
    if Path("/dev/dri").exists():
        return "a graphics device; not detected by itself", "dtf-worker run --device xpu:0"
    return "no graphics device (/dev/dri)", "Install the driver; then declare it: --device xpu:0"


def _unknown() -> Reason:
    return "not detected by itself", "Declare it: dtf-worker run --hardware NAME"


_ABSENT: dict[str, Callable[[], Reason]] = {
    "cuda": _cuda,
    "rocm": _rocm,
    "xpu": _xpu,
    "mps": _platform("macOS on Apple silicon", "Apple's GPU API"),
    "directml": _platform("Windows", "Windows' GPU API"),
    "qnn": _platform("a Qualcomm NPU", "Qualcomm's NPU runtime"),
    "openvino": _packaged("openvino", "openvino", "openvino"),
    "webgpu": _browser,
    "webnn": _browser,
    "wasm": _browser,
}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(version unknown)"


async def _reach(config: Config) -> tuple[list[Check], ExitCode]:
    """The configured server and its leader."""
    from ..core.pool_file import find_pool_file

    if config.server is None and find_pool_file(config.data_dir) is None:
        found = "none configured and no local pool runs; `dtf run` starts one"
        return [Check("server", "absent", found, "Keep one up: dtf up")], ExitCode.PASSED
    try:
        return await _ask_server(config)
    except Unavailable as error:
        return [Check("server", "missing", str(error), error.remedy)], ExitCode.UNAVAILABLE
    except DtfError as error:
        return [Check("server", "missing", str(error), error.remedy)], ExitCode.FAILED


async def _ask_server(config: Config) -> tuple[list[Check], ExitCode]:
    from ..core.client import open_client
    from .leader import leader_name

    async with open_client(config, name="dtf-doctor") as client:
        checks = [Check("server", "ok", client.connection.options.url)]
        leader = await leader_name(client)
    if leader is None:
        fix = "Start one: dtf coordinator run"
        return [*checks, Check("leader", "missing", "nobody leads", fix)], ExitCode.UNAVAILABLE
    return [*checks, Check("leader", "ok", leader)], ExitCode.PASSED
