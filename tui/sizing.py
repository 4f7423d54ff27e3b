"""How a local pool divides this machine. Rule: every worker has the same share, and the largest
task of a run fits one of them wherever it fits the machine.
"""

from __future__ import annotations

WORKERS_MAX = 4
"""Worker processes by default at most; each serves its share of the machine."""


def machine_size() -> tuple[int, int]:
    """(thousandths of a core, bytes of memory) this process may use."""
    from ..worker.devices.detect import cpu_milli, memory_bytes

    return cpu_milli(), memory_bytes()


def worker_count(wanted: int | None, cpu_milli: int = 0, memory_bytes: int = 0) -> int:
    """How many workers: as asked, else one a core up to four, fewer where the largest task
    (`cpu_milli`, `memory_bytes`) needs more of the machine than such a share.
    """
    if wanted is not None:
        return wanted
    cores_milli, memory = machine_size()
    count = max(1, min(WORKERS_MAX, cores_milli // 1000))
    if cpu_milli > 0:
        count = min(count, cores_milli // cpu_milli)
    if memory_bytes > 0:
        count = min(count, memory // memory_bytes)
    return max(1, count)


def share_of(workers: int) -> tuple[int, int]:
    """(thousandths of a core, bytes of memory) of each of that many workers; one core at least."""
    cores_milli, memory = machine_size()
    count = max(1, workers)
    return max(min(1000, cores_milli), cores_milli // count), memory // count
