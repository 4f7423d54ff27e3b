"""What a worker is told by its operator. Rule: nothing here is measured; None means ask the
machine.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..core.model import Device

MIB = 1024 * 1024
GIB = 1024 * MIB


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of one agent."""

    name: str
    """A subject token, unique in the pool."""
    data_dir: Path
    """Scratch directories and bundles live below it; shared by the workers of a host."""
    pool: str = "main"
    cpu_milli: int | None = None
    """Thousandths of a core to give out; None: what the process may use."""
    memory_bytes: int | None = None
    labels: dict[str, str] = {}
    hardware: tuple[str, ...] = ()
    """Classes served beside what is detected; declared, not verified."""
    devices: tuple[Device, ...] = ()
    """Devices declared by hand."""
    detect: bool = True
    """Ask drivers for devices."""
    prefetch: int = 512
    drain_timeout_s: float | None = None
    """How long running attempts may take after SIGTERM; None waits for their own limits."""
    output_bytes_max: int = 64 * MIB
    """Output kept of one attempt; the rest is read and thrown away."""
    artifact_bytes_max: int = GIB
    """All artifacts of one attempt together."""
    artifact_files_max: int = 1000
    scratch_bytes_max: int = 8 * GIB
    """What an attempt may write into its scratch directory before it is ended."""
    bundle_cache_bytes_max: int = 4 * GIB
    beat_s: float = 1.0
