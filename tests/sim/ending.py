"""What must be true once everything is over. Rule: every reader tells the same story as the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtf.core.follow import RunView
from dtf.core.state import digest
from dtf.projections.ledger import Ledger

from . import nodes
from .oracle import Broken
from .plan import WORKERS

if TYPE_CHECKING:
    from .world import World


def check_end(world: World) -> None:
    """All of it. Raises `Broken`."""
    _acknowledged(world)
    _readers(world)
    _workers(world)
    _projector(world)
    for view in world.views:
        _view(world, view, "a client that followed")
    _late_clients(world)


def _acknowledged(world: World) -> None:
    for run, tasks in world.acked.items():
        known = world.truth.pool.runs.get(run)
        if known is None:
            raise Broken("nothing acknowledged is lost", run)
        early = known.settled in ("cancelled", "incomplete")
        if known.settled in ("", "rejected") or (known.size != tasks and not early):
            raise Broken("nothing acknowledged is lost", (run, known.settled, known.size, tasks))


def _readers(world: World) -> None:
    leaders = 0
    for life, shell in world.shells.items():
        if life.name[0] != "c":
            continue
        leaders += shell.leads
        pool = shell.fold.pool
        if pool.sequence != world.log.last or digest(pool) != world.digests[-1]:
            raise Broken("F9: readers agree at every sequence", (life, pool.sequence))
    if leaders != 1:
        raise Broken("L1: a healthy pool has one leader", leaders)


def _projector(world: World) -> None:
    """A projector that was killed and went on has the rows of one that never stopped."""
    baseline = world.baseline.take()
    disk = world.disk
    ledger = Ledger(nodes.POOL)
    if disk.snapshot is not None:
        ledger = nodes.load(nodes.POOL, *disk.snapshot)
    for message in world.log.messages[ledger.pool.sequence :]:
        if ledger.pool.sequence == disk.position:
            nodes.settle_in(ledger)
        nodes.rows.feed(ledger, message)
    if ledger.pool.sequence == disk.position:
        nodes.settle_in(ledger)
    nodes.commit(ledger, disk, snapshot=False)
    for table, expected in baseline.facts.items():
        if sorted(map(repr, disk.facts.get(table, ()))) != sorted(map(repr, expected)):
            raise Broken("F8: a resumed projector has the rows of one that never stopped", table)
    extra = [t for t, found in disk.facts.items() if found and t not in baseline.facts]
    if extra:
        raise Broken("F8: a resumed projector has the rows of one that never stopped", extra)
    if nodes.save(ledger)[1] != nodes.save(world.baseline)[1]:
        raise Broken("F8: a resumed projector has the records of one that never stopped")


def _workers(world: World) -> None:
    """One agent a name, and it is the one the pool knows."""
    for name in WORKERS:
        lives, known = world.lives[name], world.truth.pool.workers[name]
        if len(lives) != 1:
            raise Broken("W1: the older of two agents exits", lives)
        if known.ended or world.shells[lives[0]].machine.incarnation != known.incarnation:
            raise Broken("W3: a healthy agent is a worker of the pool", (name, known.ended))


def _late_clients(world: World) -> None:
    for run in world.truth.pool.runs:
        view = RunView(run, nodes.POOL)
        for message in world.log.messages:
            view.feed(message)
        _view(world, view, "a client that came late")


def _view(world: World, view: RunView, who: str) -> None:
    run = world.truth.pool.runs.get(view.run)
    if run is None or run.settled == "replaced":
        return
    told = view.verdict or ("rejected" if view.rejected else "")
    if told != run.settled or (view.counts != run.counts and told != "rejected"):
        evidence = (who, view.run, told, run.settled, view.counts, run.counts)
        raise Broken("F11: a client sees what the pool settled", evidence)
    if told in ("passed", "failed", "cancelled"):
        settled = world.oracle.runs[view.run].settled
        for group, index, verdict in view.verdicts():
            task = f"{group.group}-{index}"
            if settled.get(task, "") != (verdict.value if verdict is not None else ""):
                evidence = (who, view.run, task, verdict, settled.get(task))
                raise Broken("F11: a client sees what the pool settled", evidence)
