"""Subjects and stream names of a pool.

Rule: every token is a name; a subject says who wrote and about what.

log        dtf.P.run.<publisher>.<run>    dtf.P.assign.<hardware or _>.<worker>
           dtf.P.attempt.<worker>.<run>   dtf.P.worker.<worker>   dtf.P.ruling.<run>
           dtf.P.pool                     dtf.P.leader
telemetry  dtf.P.beat.<worker>            dtf.P.health.<coordinator>
output     dtf.P.output.<run>.<task>.<attempt>
"""

from __future__ import annotations

from typing import NamedTuple

from .ids import check_name, is_name

LOG_KINDS = ("run", "assign", "attempt", "worker", "ruling", "pool", "leader", "act")
_KNOWN_MAX = 4096
"""Most subjects remembered with their parts; then they are read again."""
_LENGTHS = {"run": 2, "assign": 2, "attempt": 2, "worker": 1, "ruling": 1, "pool": 0, "leader": 0}


class Subject(NamedTuple):
    """A parsed log subject. `owner` is the publisher or worker, `run` the run; "" where none."""

    kind: str
    owner: str
    run: str


class Subjects:
    """Builds and parses the subjects of one pool. Cheap; names are checked once, here."""

    def __init__(self, pool: str) -> None:
        self.pool = check_name(pool, "pool")
        self._known: dict[str, Subject] = {}
        self.prefix = f"dtf.{pool}."
        self.log_stream = f"DTF_{pool}_LOG"
        self.telemetry_stream = f"DTF_{pool}_TELEMETRY"
        self.output_stream = f"DTF_{pool}_OUTPUT"
        self.lease_bucket = f"DTF_{pool}_lease"
        self.blob_bucket = f"DTF_{pool}_blobs"
        self.state_bucket = f"DTF_{pool}_state"
        self.log_subjects = [
            f"{self.prefix}{kind}.>"
            for kind in ("run", "assign", "attempt", "worker", "ruling", "act")
        ]
        self.log_subjects += [f"{self.prefix}pool", f"{self.prefix}leader"]
        self.pool_rulings = f"{self.prefix}pool"
        self.leader = f"{self.prefix}leader"
        self.query = f"{self.prefix}query"
        """Request subject of the query service."""
        self.durations = f"{self.prefix}ask.durations"
        """Request subject of the coordinators for how long cases last."""

    def run(self, publisher: str, run: str) -> str:
        return f"{self.prefix}run.{publisher}.{run}"

    def assign(self, hardware: str, worker: str) -> str:
        return f"{self.prefix}assign.{hardware}.{worker}"

    def to_worker(self, worker: str) -> str:
        """For rulings to a worker that name no hardware: revoke, lost."""
        return f"{self.prefix}assign._.{worker}"

    def attempt(self, worker: str, run: str) -> str:
        return f"{self.prefix}attempt.{worker}.{run}"

    def worker(self, worker: str) -> str:
        return f"{self.prefix}worker.{worker}"

    def ruling(self, run: str) -> str:
        return f"{self.prefix}ruling.{run}"

    def beat(self, worker: str) -> str:
        return f"{self.prefix}beat.{worker}"

    def health(self, coordinator: str) -> str:
        return f"{self.prefix}health.{coordinator}"

    def output(self, run: str, task: str, attempt: int) -> str:
        return f"{self.prefix}output.{run}.{task}.{attempt}"

    def follow_run(self, run: str) -> list[str]:
        """Filters of a client that follows one run (protocol F11)."""
        p = self.prefix
        return [f"{p}attempt.*.{run}", f"{p}ruling.{run}", f"{p}run.*.{run}", f"{p}leader"]

    def follow_worker(self, worker: str) -> list[str]:
        """Filters of an agent's consumer (protocol W1)."""
        return [f"{self.prefix}assign.*.{worker}", f"{self.prefix}leader"]

    def parse(self, subject: str) -> Subject | None:
        """The parts of a log subject of this pool, or None (then void in the fold)."""
        known = self._known.get(subject)
        if known is None:
            known = self._read(subject)
            if known is not None:
                if len(self._known) >= _KNOWN_MAX:
                    self._known.clear()
                self._known[subject] = known
        return known

    def _read(self, subject: str) -> Subject | None:
        if not subject.startswith(self.prefix):
            return None
        kind, *rest = subject[len(self.prefix) :].split(".")
        if _LENGTHS.get(kind) != len(rest) or not all(
            is_name(part) or (kind == "assign" and part == "_") for part in rest
        ):
            return None
        if kind in ("run", "attempt"):
            return Subject(kind, rest[0], rest[1])
        if kind == "assign":
            return Subject(kind, rest[1], "")
        if kind == "worker":
            return Subject(kind, rest[0], "")
        return Subject(kind, "", rest[0] if rest else "")
