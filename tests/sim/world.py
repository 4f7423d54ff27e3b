"""One pool, one plan, one verdict. Rule: after every stored message all invariants hold; after
healing everything settles within `SETTLE_S`, and every reader tells the same.
"""

from __future__ import annotations

import gc
import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
from dtf.coordinator import policy
from dtf.core import events as e
from dtf.core import invariants
from dtf.core.codec import decode_batch, encode_batch
from dtf.core.errors import AppendRefused, BrokenInvariant, DtfError
from dtf.core.fold import Fold
from dtf.core.follow import RunView
from dtf.core.model import Cause
from dtf.core.ports import Message
from dtf.core.state import Pool, digest
from dtf.projections import rows
from dtf.projections.ledger import Ledger

from . import nodes
from .log import Fate, LeaseTwin, Stream
from .loop import Life, Stuck, VirtualLoop
from .network import SERVER, Link, Network
from .oracle import Broken, Oracle
from .plan import COORDINATORS, FAULTS_S, PROJECTOR, PUBLISHERS, READ, SENT, WORKERS, Plan, Step
from .workers import BENCH, Bench

SETTLE_S = 90.0
"""Virtual seconds from healing to rest. Limits, backoff and the time of incomplete runs fit in."""
REST_S = 4.0
LOST_S = 4.0 + 3.0
"""Silence, and some beats."""
TAKEOVER_S = 3.0 + 2.0
"""The lease, and the promise of two seconds."""
INCOMPLETE_MS = 12_000
STEPS_MAX = 400_000


class World:
    """Everything of one run of the simulator."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.loop = VirtualLoop()
        self.rng = random.Random(f"{plan.seed}/world")
        self.bench = Bench(plan.seed)
        BENCH[:] = [self.bench]
        self.network = Network(self.loop, plan.seed, plan.hints)
        self.log = Stream(self.network, self, dedup=plan.dedup)
        self.telemetry = Stream(self.network, None, dedup=True)
        self.lease = LeaseTwin(self.network)
        self.truth = Fold(nodes.POOL)
        self.sometimes: Counter[str] = Counter()
        self.oracle = Oracle(
            self.truth.pool, self.bench, self.saw, self.loop.time, INCOMPLETE_MS / 1000
        )
        self.baseline = Ledger(nodes.POOL)
        self.digests: list[str] = [""]
        self.disk = nodes.Disk()
        self.healed_at: float | None = None
        self.story: list[str] = []
        """What happened beside the log, in words."""
        self.acked: dict[str, int] = {}
        self.views: list[RunView] = []
        self.lives: dict[str, list[Life]] = {}
        self.shells: dict[Life, Any] = {}
        self.links: dict[Life, Link] = {}
        self.broken: Exception | None = None
        self._sent: Counter[str] = Counter()
        self._read: Counter[str] = Counter()
        self._fates = {(s.target, int(s.at)): s for s in plan.steps if s.kind in SENT}
        self._deaths = {(s.target, int(s.at)) for s in plan.steps if s.kind == "die_reading"}
        self._missed = {(s.target, int(s.at)) for s in plan.steps if s.kind == "miss"}
        self._numbers: Counter[str] = Counter()
        self._troubled: dict[str, float] = {}
        """Node -> until when it, its way or the clock were disturbed."""
        self._ids: dict[str, tuple[str, bytes]] = {}
        self._given: set[tuple[str, str]] = set()
        self._rested_at = 0
        self._elected_at = 0.0

    # -- what others tell --------------------------------------------------------------------------
    def saw(self, what: str) -> None:
        """A state worth counting was reached."""
        self.sometimes[what] += 1

    def note(self, words: str) -> None:
        """For the story."""
        self.story.append(f"{self.loop.time():8.3f}  {words}")

    def acknowledged(self, run: str, tasks: int) -> None:
        """A publisher was told that this is stored."""
        self.acked[run] = tasks

    def followed(self, view: RunView) -> None:
        """A client saw the end of its run."""
        self.views.append(view)

    def compare(self, pool: Pool, who: str) -> None:
        """At one sequence there is one state."""
        if pool.sequence % 7 == 0 and digest(pool) != self.digests[pool.sequence]:
            self.fail(Broken("F9: readers agree at every sequence", (who, pool.sequence)))

    def fail(self, error: Exception) -> None:
        """The first broken promise is the one that is told."""
        if self.broken is None:
            self.broken = error

    def stored(self, message: Message) -> None:
        """The log grew: judge at once."""
        try:
            judged = self.truth.apply(message)
            self.oracle.hear(judged)
            invariants.check(self.truth.pool)
            invariants.check_reservations(self.truth.pool)
            self._check_rulings(judged)
            rows.feed(self.baseline, message)
            if self.bench.clashes:
                raise Broken("A6: one device, one attempt", self.bench.clashes)
            self._check_begun()
        except (Broken, BrokenInvariant) as error:
            self.fail(error)
        self.digests.append(digest(self.truth.pool))
        if judged.subject is not None and judged.subject.kind == "leader" and not judged.voids[0]:
            self._elected_at = self.loop.time()

    def _check_begun(self) -> None:
        fresh, self.bench.fresh = self.bench.fresh, []
        for token in fresh:
            if self.bench.begun[token] > 1:
                raise Broken("A2: an attempt runs once", token)
            if token not in self.oracle.attempts:
                raise Broken("A4: a worker runs only what the log gave it", token)

    def _check_rulings(self, judged: Any) -> None:
        """Rulings on workers that nothing was wrong with."""
        now = self.loop.time()
        for event, void in zip(judged.events, judged.voids, strict=False):
            if void:
                continue
            if isinstance(event, e.WorkerLost) and "did not end" not in event.reason:
                calm = max(self._troubled.get(judged.subject.owner, 0), self._troubled.get("*", 0))
                if self.lives.get(judged.subject.owner) and now - calm > 7.0:
                    raise Broken("W5: a healthy worker was declared lost", (now, calm, event))
            if isinstance(event, e.TaskRequeued) and event.cause.value == "never_received":
                for life, shell in self.shells.items():
                    if life.name[0] != "w" or life.dead:
                        continue
                    seen = self.oracle.attempts[event.token]
                    if shell.machine.incarnation != seen.incarnation:
                        continue
                    if event.token in shell.machine.attempts or event.token in self.bench.begun:
                        raise Broken("W4: only what never came is closed as never received", event)

    # -- fates -------------------------------------------------------------------------------------
    def fate(self, life: Life) -> Fate:
        """What becomes of the node's next message."""
        number = self._sent[life.name]
        self._sent[life.name] += 1
        step = self._fates.get((life.name, number)) if self.healed_at is None else None
        if step is None:
            return "", 0.0
        self.note(f"{step.kind} message {number} of {life} ({step.value:g})")
        self.trouble(life.name, step.value + 1 if step.kind == "late" else 0)
        return step.kind, step.value

    def reading(self, life: Life) -> str:
        """The node is about to read: "die" right here, "miss" what came, or ""."""
        number = self._read[life.name]
        self._read[life.name] += 1
        if self.healed_at is not None:
            return ""
        if (life.name, number) in self._deaths:
            self.kill(life, "when it was about to read")
            return "die"
        if (life.name, number) in self._missed:
            self.note(f"{life} cannot read some assignments")
            return "miss"
        return ""

    def sending(self, link: Link, subject: str, message_id: str, data: bytes) -> None:
        """A node sends: one un-acknowledged message a subject, one id a message (L5, F6)."""
        shell = self.shells.get(link.life)
        scheduler = getattr(shell, "scheduler", None)
        term = scheduler.term if scheduler is not None else 0
        if term and message_id not in self._ids and b'"TaskAssigned"' in data:
            for event in decode_batch(data):
                run = shell.fold.pool.runs.get(event.run) if type(event) is e.TaskAssigned else None
                if run is not None:
                    task = (event.run, event.token.partition(".")[0])
                    if run.cancel_at and task not in self._given:
                        self.fail(Broken("A8: nothing new of a cancelled run is given out", event))
                    self._given.add(task)
        before = link.unanswered.get(subject)
        alone = (term and not subject.endswith(".leader")) or link.life.name in WORKERS
        other = before is not None and before != (message_id, term) and before[1] == term
        if alone and other:
            evidence = (link.life, subject)
            self.fail(Broken("L5: one un-acknowledged message a subject", evidence))
        link.unanswered[subject] = (message_id, term)
        if self._ids.setdefault(message_id, (subject, data)) != (subject, data):
            self.fail(Broken("F6: an id belongs to one message", message_id))

    def trouble(self, who: str, seconds: float) -> None:
        """Until then, nobody may expect much of it; "*" is everybody."""
        until = self.loop.time() + seconds
        self._troubled[who] = max(until, self._troubled.get(who, 0.0))

    # -- nodes -------------------------------------------------------------------------------------
    def start(self, name: str) -> None:
        """A new life of the node."""
        number = self._numbers[name]
        self._numbers[name] += 1
        life = Life(name, number, random.Random(f"{self.plan.seed}/{name}/{number}/ids"))
        link = self.links[life] = self.network.connect(life)
        link.find = self.log.find
        self.lives.setdefault(name, []).append(life)
        self.trouble(name, 0)

        async def main() -> None:
            if name in COORDINATORS:
                shell: Any = nodes.coordinator(self, link)
            elif name in WORKERS:
                shell = nodes.agent(self, link)
            elif name in PUBLISHERS:
                shell = nodes.Publisher(self, link)
            else:
                await nodes.projector(self, link, self.disk)
                return
            self.shells[life] = shell
            await shell.run()

        task = self.loop.start(life, main())
        task.add_done_callback(lambda _: self._ended(life))

    def _ended(self, life: Life) -> None:
        if life.dead:
            return
        error = life.failure
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if error is not None and not isinstance(error, AppendRefused):
            self.note(f"{life} ended by {error!r}")
            self.fail(error if isinstance(error, Exception) else Broken("a node ended", error))
        superseded = len(self.lives[life.name]) > 1 and life is not self.lives[life.name][-1]
        self.kill(life, f"by itself: {error!r}" if error else "by itself", restart=not superseded)

    def kill(self, life: Life, why: str, down_s: float = 1.0, *, restart: bool = True) -> None:
        """kill -9, and a supervisor that starts it again."""
        if life.dead:
            return
        life.dead = True
        self.note(f"{life} dies {why}")
        self.trouble(life.name, 0)
        self.lives[life.name].remove(life)
        self.shells.pop(life, None)
        link = self.links.pop(life)
        for stream in (self.log, self.telemetry):
            stream.readers = [r for r in stream.readers if r.link is not link]
        self.lease.watchers = [w for w in self.lease.watchers if w[0] is not link]
        for place in [p for p in self.bench.in_use if p[:2] == (life.name, life.number)]:
            del self.bench.in_use[place]
        self.network.closed(link, link.client_id)
        if restart:
            self.loop.call_later(down_s, self._restart, life.name, context=SERVER)

    def _restart(self, name: str) -> None:
        if not self.lives.get(name):
            self.start(name)

    # -- steps of the plan -------------------------------------------------------------------------
    def do(self, step: Step) -> None:
        """A fault, or something people ask for."""
        if self.healed_at is not None:
            return
        self.note(str(step).partition(": ")[2])
        act: Callable[[Step], None] = getattr(self, f"_do_{step.kind}", self._do_ask)
        act(step)

    def _alive(self, name: str) -> list[Life]:
        return list(self.lives.get(name, ()))

    def _do_ask(self, step: Step) -> None:
        for life in self._alive(step.target)[-1:]:
            shell = self.shells.get(life)
            if shell is not None:
                self.loop.start(life, shell.act(step))

    def _do_drain(self, step: Step) -> None:
        event = e.DrainRequested(worker=step.target, drain=step.kind == "drain")
        self._admin(event)

    _do_undrain = _do_drain

    def _admin(self, *events: e.Event) -> None:
        self.log.store(f"dtf.{nodes.POOL}.pool", encode_batch(events), f"admin{self.log.last}")

    def _do_crash(self, step: Step) -> None:
        for life in self._alive(step.target):
            self.kill(life, "in a crash", step.value)

    def _do_stop(self, step: Step) -> None:
        for life in self._alive(step.target):
            life.stopped = True
            self.trouble(life.name, step.value)
            shell = self.shells.get(life)
            if life.name in COORDINATORS and shell is not None and shell.leads:
                self.saw("a leader was stopped")
                if any(term for _, term in self.links[life].unanswered.values()):
                    self.saw("a leader was stopped with a wave in flight")
            self.loop.call_later(step.value, self._thaw, life, context=SERVER)
            if step.target in WORKERS and self.rng.random() < 0.15:
                self.note(f"a second {step.target} is started beside it")
                self.start(step.target)

    def _thaw(self, life: Life) -> None:
        if life.stopped and not life.dead:
            self.note(f"{life} goes on")
            self.trouble(life.name, 0)
            self.loop.go_on(life)

    def _do_cut(self, step: Step) -> None:
        for life in self._alive(step.target):
            link = self.links[life]
            link.cut_off()
            self.trouble(life.name, step.value + 0.5)
            lost = step.value >= 6
            self.loop.call_later(step.value, self._mend, link, lost, context=SERVER)

    def _mend(self, link: Link, lost: bool) -> None:
        self.trouble(link.life.name, 0.5)
        link.heal(lost=lost)

    def _do_reconnect(self, step: Step) -> None:
        for life in self._alive(step.target):
            self.trouble(life.name, 7)
            self.links[life].reconnect()

    def _do_server(self, step: Step) -> None:
        if self.network.up:
            self.network.go_down()
            self.trouble("*", step.value + 1)
            self.loop.call_later(step.value, self._server_up, context=SERVER)

    def _server_up(self) -> None:
        if not self.network.up:
            self.note("the server is back")
            self.network.come_up()

    def _do_clock(self, step: Step) -> None:
        self.network.skew_ns += int(step.value * 1e9)
        self.trouble("*", 0)

    def _do_slow(self, step: Step) -> None:
        for life in self._alive(step.target):
            self.links[life].slow_until = self.loop.time() + 5
            self.links[life].slow_s = step.value
            self.trouble(life.name, 5 + step.value)

    def _do_hint(self, step: Step) -> None:
        for life in self._alive(step.target):
            self.saw("a false hint")
            self.network.hint(step.target, self.links[life].client_id)

    def _do_forget_lease(self, step: Step) -> None:
        self.lease.set("")

    def _do_forge(self, step: Step) -> None:
        nodes.forgery(self, step.value)

    def _do_retire(self, step: Step) -> None:
        gently = step.value < 0.5
        for life in self._alive(step.target):
            shell, task = self.shells.get(life), self.loop
            if shell is not None:

                async def stop(shell: Any = shell) -> None:
                    shell.stop(drain=gently)

                task.start(life, stop())

    # -- the whole ---------------------------------------------------------------------------------
    def run(self) -> None:
        """Live the plan. Raises what was broken first."""
        gc.disable()
        undo = self._keep_policy()
        try:
            self._live()
        finally:
            undo()
            self._bury()
        if self.broken is not None:
            raise self.broken

    def _live(self) -> None:
        created = e.PoolCreated(uuid=f"u{self.plan.seed}", name=nodes.POOL)
        self._admin(created, e.PoolConfigured(incomplete_ms=INCOMPLETE_MS))
        names = (*COORDINATORS[: self.plan.coordinators], *WORKERS, *PUBLISHERS, PROJECTOR)
        for name in names:
            self.loop.call_later(self.rng.uniform(0, 0.2), self._restart, name, context=SERVER)
        for step in self.plan.steps:
            if step.kind not in (*SENT, *READ):
                self.loop.call_later(step.at, self.do, step, context=SERVER)
        self._turn(FAULTS_S, lambda: False)
        self._heal(names)
        self._turn(FAULTS_S + SETTLE_S, self._settled)
        if self.broken is None and not self._settled():
            self.fail(Broken("after healing everything settles", self._unsettled()))
        before = self.log.last
        self._turn(self.loop.time() + REST_S, lambda: False)
        if self.broken is None:
            from .ending import check_end

            if self.log.last != before:
                self._turn(self.loop.time() + REST_S, lambda: False)
                if self.log.last > before + 40:
                    self.fail(Broken("a settled pool comes to rest", self.log.last - before))
            try:
                check_end(self)
                self._epilogue()
            except (Broken, BrokenInvariant) as error:
                self.fail(error)

    def _epilogue(self) -> None:
        """A healthy pool loses a worker, then its leader, for good: both are noticed."""
        for life in self._alive(WORKERS[-1]):
            self.kill(life, "for good", restart=False)
        self._turn(self.loop.time() + LOST_S, lambda: bool(self._worker().ended))
        if self.broken is None and not self._worker().ended:
            raise Broken("W5: a dead worker is declared lost", LOST_S)
        term = self.truth.pool.term
        for life in [life for life, shell in self.shells.items() if getattr(shell, "leads", False)]:
            self.kill(life, "for good", restart=False)
        self._turn(self.loop.time() + TAKEOVER_S, lambda: self.truth.pool.term > term)
        if self.broken is None and self.truth.pool.term == term:
            raise Broken("L2: a dead leader is replaced", TAKEOVER_S)

    def _worker(self) -> Any:
        return self.truth.pool.workers[WORKERS[-1]]

    def _turn(self, until: float, enough: Callable[[], bool]) -> None:
        def more() -> bool:
            if self.loop.steps > STEPS_MAX:
                self.fail(Broken("a world comes to an end", self.loop.steps))
            for error in self.loop.errors:
                self.fail(error if isinstance(error, Exception) else Broken("a bug", error))
            return self.broken is None and not enough()

        try:
            self.loop.call_at(until, lambda: None, context=SERVER)
            self.loop.run_while(more, until)
        except Stuck as stuck:
            self.fail(Broken("somebody always has something to do", stuck))

    def _heal(self, names: tuple[str, ...]) -> None:
        self.note("all faults are healed")
        self.healed_at = self.loop.time()
        self.trouble("*", 3)
        self._server_up()
        for lives in self.lives.values():
            for life in list(lives):
                link = self.links[life]
                link.slow_until = 0
                if link.cut:
                    self._mend(link, False)
                self._thaw(life)
        for reader in (*self.log.readers, *self.telemetry.readers):
            reader.again()
        for name in names:
            self._restart(name)
        drained = [w.name for w in self.truth.pool.workers.values() if w.drained]
        for name in drained:
            self._admin(e.DrainRequested(worker=name, drain=False))

    def _settled(self) -> bool:
        last = self.log.last
        if last == self._rested_at:
            return False
        pool = self.truth.pool
        if pool.open or any(not run.settled for run in pool.runs.values()):
            self._rested_at = last
            return False
        return all(run in pool.runs for run in self.acked)

    def _unsettled(self) -> object:
        pool = self.truth.pool
        waiting = {run.id[:6]: (run.settled_tasks, run.size) for run in pool.runs.values()
                   if not run.settled}  # fmt: skip
        return waiting, list(pool.open), f"term {pool.term} by {pool.coordinator}"

    def _keep_policy(self) -> Callable[[], None]:
        """Some pools leave lost attempts open: the first finish counts (A3)."""
        original = policy.after_loss
        if self.plan.keep:

            def keep(task: Any, attempt: Any, cause: Any, term: int) -> Any:
                ruling = original(task, attempt, cause, term)
                lost = cause is Cause.WORKER_LOST and not task.settled
                if isinstance(ruling, e.TaskRequeued) and lost:
                    return msgspec.structs.replace(ruling, keep_open=True)
                return ruling

            policy.after_loss = keep
        return lambda: setattr(policy, "after_loss", original)

    def _bury(self) -> None:
        """Nothing of this world is left; what coroutines say when they are closed is nothing."""
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        self.shells.clear()
        self.links.clear()
        self.network.links.clear()
        self.log.readers.clear()
        self.telemetry.readers.clear()
        self.loop._ready.clear()  # type: ignore[attr-defined]
        self.loop._scheduled.clear()  # type: ignore[attr-defined]
        gc.collect()
        gc.enable()
        sys.unraisablehook = hook


__all__ = ["DtfError", "World"]
