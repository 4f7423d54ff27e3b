"""`dtf-worker run`. Rule: parse, check at the border, then hand over; nothing heavy is imported
before that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ..core.errors import InvalidConfig
from ..core.ids import is_name
from ..core.model import HARDWARE, Device
from ..core.quantities import size_bytes

Flag = Annotated[bool, Parameter(negative="")]


def worker_run(
    *,
    server: str | None = None,
    user: str | None = None,
    password_file: Path | None = None,
    token_file: Path | None = None,
    creds: Path | None = None,
    pool: str | None = None,
    name: str | None = None,
    data_dir: Path | None = None,
    context: str | None = None,
    cpus: Annotated[float | None, Parameter(name=["--cpus", "--slots"])] = None,
    memory: str | None = None,
    label: Annotated[list[str] | None, Parameter(name=["--label", "--labels"])] = None,
    hardware: list[str] | None = None,
    device: list[str] | None = None,
    detect: bool = True,
    prefetch: int = 512,
    drain_timeout: float | None = None,
    patience: float = 60.0,
    output_limit: str | None = None,
    artifact_limit: str | None = None,
    scratch_limit: str | None = None,
    bundle_cache: str | None = None,
    with_parent: Flag = False,
    json: Flag = False,
    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"], negative="")] = False,
) -> int:
    """Join a pool and run what it assigns, until SIGTERM or Ctrl-C (running attempts then end
    first).

    Parameters
    ----------
    server
        NATS server; default: the pool on this machine.
    user
        User name for the server.
    password_file
        File with the password, so that no process list shows it.
    token_file
        File with the token.
    creds
        NATS credentials file.
    pool
        Pool to join.
    name
        Name of this worker, unique in the pool; default: the host name.
    data_dir
        Where scratch directories and bundles live.
    context
        Named server to use.
    cpus
        Cores to give out, such as 2 or 0.5; default: all this process may use.
    memory
        Main memory to give out, such as 8G; default: all this process may use.
    label
        A label as key=value; may be repeated, or several separated by commas.
    hardware
        An accelerator class to serve with one device although none was detected; may be repeated.
    device
        A device as class:id, such as cuda:0; declared, not verified; may be repeated.
    detect
        Ask drivers for devices.
    prefetch
        Most assignments to queue here beyond those that run.
    drain_timeout
        Seconds that running attempts may take after SIGTERM; default: what their limits allow.
    patience
        Seconds to wait at the start for a pool that does not exist yet.
    output_limit
        Output kept of one attempt (default 64M); the rest is read and thrown away.
    artifact_limit
        Artifacts kept of one attempt, together (default 1G).
    scratch_limit
        What an attempt may write into its scratch directory (default 8G).
    bundle_cache
        Disk for unpacked bundles (default 4G).
    with_parent
        End when the process that started this one ends.
    json
        Log lines as JSON.
    verbose
        Log more.
    """
    flags: dict[str, Any] = {
        "server": server,
        "user": user,
        "password": secret(password_file),
        "token": secret(token_file),
        "creds": creds,
        "pool": pool,
        "worker": name,
        "data_dir": data_dir,
        "context": context,
    }
    if prefetch < 0 or prefetch > 4096:
        raise InvalidConfig(f"--prefetch {prefetch} is not between 0 and 4096")
    if not 0 <= patience <= 86_400:
        raise InvalidConfig(
            f"--patience {patience:g} is not between 0 and 86400 seconds", remedy="Such as 60."
        )
    given: dict[str, Any] = {
        "labels": labels(label or []),
        "hardware": tuple(hardware_name(text) for text in words(hardware or [])),
        "devices": tuple(declared_device(text) for text in words(device or [])),
        "detect": detect,
        "prefetch": prefetch,
        "drain_timeout_s": drain_timeout,
        "cpu_milli": milli(cpus),
        "memory_bytes": size("--memory", memory),
        "output_bytes_max": size("--output-limit", output_limit),
        "artifact_bytes_max": size("--artifact-limit", artifact_limit),
        "scratch_bytes_max": size("--scratch-limit", scratch_limit),
        "bundle_cache_bytes_max": size("--bundle-cache", bundle_cache),
    }
    from .process import run_process

    options = {key: value for key, value in given.items() if value is not None}
    return run_process(
        flags,
        options,
        patience_s=patience,
        with_parent=with_parent,
        json=json,
        verbose=verbose,
    )


def words(texts: list[str]) -> list[str]:
    """Values that were repeated or joined by commas, one by one."""
    return [word.strip() for text in texts for word in text.split(",") if word.strip()]


def labels(texts: list[str]) -> dict[str, str]:
    """Labels from "key=value"."""
    found = {}
    for word in words(texts):
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise InvalidConfig(f"--label {word!r} is not key=value", remedy="Such as rack=b7.")
        found[key.strip()] = value.strip()
    return found


def hardware_name(text: str) -> str:
    """An accelerator class this version knows."""
    if text not in HARDWARE:
        raise InvalidConfig(
            f"--hardware {text!r} is no accelerator class",
            remedy=f"Use one of {', '.join(HARDWARE)}.",
        )
    return text


def declared_device(text: str) -> Device:
    """A device from "class:id"; an id that is a number is also its index."""
    name, colon, key = text.partition(":")
    if not colon or not key or not is_name(name):
        raise InvalidConfig(f"--device {text!r} is not class:id", remedy="Such as cuda:0.")
    return Device(
        id=text if key.isdigit() else key,
        hardware=hardware_name(name),
        index=int(key) if key.isdigit() else None,
        level="declared",
    )


def milli(cpus: float | None) -> int | None:
    """Cores as thousandths."""
    if cpus is None:
        return None
    if not 0 < cpus <= 10_000:
        raise InvalidConfig(f"--cpus {cpus} is not a number of cores", remedy="Such as 2 or 0.5.")
    return max(1, round(cpus * 1000))


def size(flag: str, text: str | None) -> int | None:
    """A size such as 8G in bytes."""
    if text is None:
        return None
    try:
        return size_bytes(int(text) if text.isdigit() else text)
    except ValueError as error:
        raise InvalidConfig(
            f"{flag} {text!r} is not a size: {error}", remedy="Such as 8G."
        ) from error


def secret(file: Path | None) -> str | None:
    """The first line of a secret's file."""
    if file is None:
        return None
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"{file} cannot be read: {error}") from error
