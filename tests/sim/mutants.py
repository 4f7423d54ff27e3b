"""The catalogue of mutations: each rule of the protocol taken out in turn. Rule: a mutant that the
simulator does not catch is a hole in the simulator.
"""

from __future__ import annotations

from typing import NamedTuple

from .mutation import Edit


class Mutant(NamedTuple):
    """One rule, how it is broken, and where."""

    rule: str
    name: str
    edits: tuple[Edit, ...]


def _one(rule: str, name: str, where: str, old: str, new: str) -> Mutant:
    return Mutant(rule, name, (Edit(where, old, new),))


TASKS, RUNS, POOLS = "core.evolve_tasks", "core.evolve_runs", "core.evolve_pool"
SERVICE, SCHEDULER = "coordinator.service:Coordinator", "coordinator.scheduler:Scheduler"
OBSERVER, ASSIGNER = "coordinator.observer:Observer", "coordinator.assigner:Assigner"
MACHINE, AGENT = "worker.machine:Machine", "worker.agent:Agent"
VIEW, LIVENESS = "core.follow:RunView", "coordinator.liveness:Liveness"

MUTANTS: tuple[Mutant, ...] = (
    # -- leadership --------------------------------------------------------------------------------
    _one("L1", "a second claim to the same term counts", f"{POOLS}:leader_elected",
         "event.term != pool.term + 1", "event.term not in (pool.term, pool.term + 1)"),
    _one("L1", "a candidate leads without having been elected", f"{SERVICE}._observe_election",
         "if void or not", "if not"),
    _one("L2", "a deposed leader goes on", f"{SERVICE}._observe_election",
         "event.term)\n            self.scheduler = None", "event.term)"),
    _one("L2", "who lost the lease tries once and is silent", f"{SERVICE}._compete",
         "while self.keeper.held and not await self._elect():",
         "if self.keeper.held and not await self._elect():"),
    _one("L2", "the lease names the connection its holder was born with", f"{SERVICE}._place",
         "broker = self.broker", 'return "S1/1"'),
    _one("L3", "assignments of a deposed leader count", f"{TASKS}:sweep_assigned",
         "event.term != term", "event.term > term"),
    _one("L3", "rulings of a deposed leader count", f"{TASKS}:sweep_settled",
         "event.term != term", "event.term > term"),
    _one("L3", "runs are settled by a deposed leader", f"{RUNS}:run_settled",
         "event.term != pool.term", "event.term > pool.term"),
    _one("L3", "an agent obeys a deposed leader", f"{MACHINE}._assigned",
         "event.term < self._term", "False"),
    _one("L4", "a void assignment is not taken back", f"{ASSIGNER}.undo",
         "if event.token not in self.unread:", "if True:"),
    _one("L4", "a second copy takes an assignment back", f"{ASSIGNER}.undo",
         "if event.token not in self.unread:\n        return\n    self.unread.remove(event.token)",
         "self.unread.discard(event.token)"),
    _one("L5", "a time-out is a no: the leader gives a message up",
         "coordinator.sender:WaveSender._append",
         "self._loop.call_later(RESEND_S, again, message_id, False)",
         "self._next(subject, messages)"),
    _one("L5", "a time-out is a no: the agent gives a message up", "core.writer:GroupWriter._answered",
         "self._again_later(lane, group)", "self._done(lane, len(group.events))"),
    _one("L5", "two messages of one writer and subject on their way", "core.writer:GroupWriter.put_encoded",
         "elif not lane.inflight:", "else:"),
    # -- attempts ----------------------------------------------------------------------------------
    _one("A1", "any attempt number is taken", f"{TASKS}:_task_to_try",
         'return task if number == str(task.tries + 1) else "attempt_number"', "return task"),
    _one("A1", "a task that came back waits twice after a takeover", "coordinator.queue:ReadyQueue.put_back",
         "source.gone.discard(index)", "source.gone.discard(index); source.skip.discard(index)"),
    _one("A2", "a number already seen counts", f"{TASKS}:_numbered",
         "if n != attempt.next_n:", "if n > attempt.next_n:"),
    _one("A2", "an agent runs a second copy of an assignment", f"{MACHINE}._assigned",
         "token in self.attempts or token in self._past", "token in self.attempts"),
    _one("A3", "a task settles twice", f"{TASKS}:sweep_settled",
         "if group.verdicts[place]:", "if False:"),
    _one("A3", "a requeue does not close the attempt", f"{TASKS}:task_requeued",
         "elif not event.keep_open or task.settled:", "elif task.settled:"),
    _one("A3", "a finish is not ruled upon after a takeover", f"{OBSERVER}._schedule_run",
         "self.notes.finished.append(task)", "pass"),
    _one("A3", "the last finish wins, not the first", f"{TASKS}:sweep_finished",
         "if task.finish is None:", "if True:"),
    _one("A4", "an assignment to a cancelled task is void", f"{TASKS}:sweep_assigned",
         "name, number = parts[0], parts[1]",
         "name, number = parts[0], parts[1]\n        if run.cancel_at:\n"
         '            voids[index] = "already_settled"\n            continue'),
    _one("A4", "assignments to any incarnation count", f"{TASKS}:sweep_assigned",
         "worker is None or event.incarnation != worker.incarnation", "worker is None"),
    _one("A5", "what is asked back is free at once", f"{SCHEDULER}._rule_workers",
         "to_worker.setdefault(attempt.worker, []).append(revoked)",
         "to_worker.setdefault(attempt.worker, []).append(revoked)\n"
         "            self.work.desks[attempt.worker].release(token)"),
    _one("A5", "a steal takes back what runs", f"{MACHINE}._revoked",
         "if attempt.state == QUEUED:\n            self._return",
         "if attempt.state != OVER:\n            self._return"),
    _one("A6", "devices are not reserved", "coordinator.capacity:Desk.reserve",
         "self.free_devices.difference_update(seat.devices)", "pass"),
    _one("A6", "release is skipped: devices", "coordinator.capacity:Desk.release",
         "self.free_devices.update(seat.devices)", "pass"),
    _one("A6", "release is skipped: cores", "coordinator.capacity:Desk.release",
         "self.used_cpu -= seat.cpu_milli", "pass"),
    _one("A6", "a new leader does not see what is reserved", f"{ASSIGNER}.seat",
         "desk.reserve_attempt(attempt)", "pass"),
    _one("A7", "the leader does not back limits up", "coordinator.overdue:Limits.check",
         "if now - start < spec.wall_ms / 1000 * MARGIN_PART + MARGIN_S:", "if True:"),
    _one("A8", "a finish beats an earlier cancel", "coordinator.policy:after_finish",
         "if asked and finish.sequence > asked:", "if False:"),
    _one("A8", "a cancel beats an earlier finish", "coordinator.policy:after_finish",
         "if asked and finish.sequence > asked:", "if asked:"),
    # -- workers -----------------------------------------------------------------------------------
    _one("W1", "the older of two agents stays", f"{MACHINE}._joined",
         "if event.incarnation != self.incarnation and not self._over:", "if False:"),
    _one("W1", "an agent takes the work of another incarnation", f"{MACHINE}._assigned",
         "event.incarnation != self.incarnation or ", ""),
    _one("W1", "a late copy of an old join counts", f"{POOLS}:worker_joined",
         "or event.incarnation in old.past", ""),
    _one("W3", "attempts of a lost worker get no ruling", f"{OBSERVER}._collect_orphans",
         "self.notes.close(attempt, Cause.WORKER_LOST)", "pass"),
    _one("W3", "a thawed agent does not join anew", f"{MACHINE}._lost",
         'self.out.append(Rejoin(event.reason or "declared lost"))', "pass"),
    _one("W3", "a lost worker goes on getting work", f"{POOLS}:worker_lost",
         '_orphan(pool, worker, "lost")', "pass"),
    _one("W4", "what never came is never closed", f"{SCHEDULER}.close_unreceived",
         "self.notes.closing.append((attempt, Cause.NEVER_RECEIVED))", "pass"),
    _one("W4", "beats from before the assignment count", f"{LIVENESS}._unreceived",
         " or attempt.assigned_at > beat.sequence", ""),
    _one("W5", "silence is measured when the leader's beat is sent", f"{SERVICE}._beat",
         "data = join_batch(",
         "for lost in self.liveness.own_beat(1_700_000_000_000_000_000 + self.clock.monotonic_ns()):\n"
         '        self._lose(*lost, "no heartbeat")\n    data = join_batch('),
    _one("W5", "silent workers are never lost", f"{LIVENESS}.own_beat",
         "lost.append((name, worker.incarnation))", "pass"),
    _one("W6", "a hint needs no look at the connections", f"{SERVICE}._connection_gone",
         "if await self.hints.is_connected(name):", "if False:"),
    _one("W6", "any closed connection is a worker's", f"{LIVENESS}.disconnected",
         "if current == gone:", "if True:"),
    # -- submission --------------------------------------------------------------------------------
    _one("S1", "anybody may cancel a run", f"{RUNS}:cancel_requested",
         "subject.owner != run.publisher and subject.owner not in pool.admins", "False"),
    _one("S1", "anybody may extend a run", f"{RUNS}:_writable",
         "if run.publisher != subject.owner:", "if False:"),
    _one("S1", "a run may have any id", f"{RUNS}:run_submitted",
         "if subject.run != run_id(subject.owner, event.key):", "if False:"),
    _one("S2", "a part stored twice dooms its run", f"{RUNS}:tasks_submitted",
         "if known is not None:", "if False:"),
    _one("S2", "an incomplete run is open for ever", f"{OBSERVER}._watch_incomplete",
         "self.notes.after(now, self.pool.incomplete_ms, expire)", "pass"),
    _one("S2", "a run without tasks has passed", "coordinator.policy:run_verdict",
         'return "empty"', 'return "passed"'),
    _one("S2", "one part too few closes a run", f"{RUNS}:_close_if_complete",
         "len(run.parts) < sealed.parts", "len(run.parts) < sealed.parts - 1"),
    _one("S3", "a client acknowledges before the write", "core.client:Client._append",
         "stored = await self.log.append(subject, data, message_id)",
         "self.log.append_soon(subject, data, message_id, lambda _: None)\n"
         "                    return 0"),
    # -- reading and folding -----------------------------------------------------------------------
    _one("F1", "a clock in the fold", f"{RUNS}:cancel_requested",
         "run.cancel_at = sequence", 'run.cancel_at = __import__("time").perf_counter_ns()'),
    _one("F1", "a wall clock in a decision", f"{SERVICE}._now",
         "monotonic_ns", "time_ns"),
    _one("F2", "a message is folded from behind", "core.fold:Fold._judge",
         "groupby(events, type)", "groupby(reversed(events), type)"),
    _one("F3", "a step raises", f"{TASKS}:_numbered",
         'return "attempt_closed"', "raise KeyError(token)"),
    _one("F3", "a step changes before it has checked", f"{TASKS}:_numbered",
         "if n != attempt.next_n:", 'if n != attempt.next_n and not setattr(attempt, "next_n", 0):'),
    _one("F5", "what the server itself wrote counts", "core.fold:Fold._judge",
         "(message.headers and _forged(message.headers))", "False"),
    _one("F5", "an agent obeys what the server itself wrote", "worker.agent:_forged",
         "return bool(headers) and", "return False and"),
    _one("F5", "a client believes what the server itself wrote", f"{VIEW}.feed",
         "subject is None or is_forged(message)", "subject is None"),
    _one("F6", "a message id is used again", "core.writer:_Group.__init__",
         "random_id(26)", 'f"{len(self.data)}"'),
    _one("F8", "rows and position, but not the snapshot they follow from", "projections.memo:settle_in",
         "ledger.take()", "pass"),
    _one("F8", "a snapshot without the open attempts", "projections.memo:_ledger",
         "for attempt in memo.attempts:", "for attempt in ():"),
    _one("F9", "a restored fold forgets what was revoked", "core.snapshot:_task",
         "attempt.next_n, attempt.started = each.next_n, each.started", "pass"),
    _one("F11", "a client believes a deposed leader", "core.elections:Elections.allow",
         "return not self._known or term >= self._pool.term", "return True"),
    _one("F11", "a client believes an end that parts overtook", f"{VIEW}._ends",
         "run = self.submission", "return True"),
    _one("F13", "a run settles before its last task", f"{RUNS}:run_settled",
         "run.settled_tasks < run.size", "False"),
    _one("F13", "something counts after the run is settled", f"{RUNS}:run_settled",
         'if run.settled:\n        return "run_settled"', ""),
    _one("F13", "a streamed run is settled when nothing waits", f"{OBSERVER}._complete",
         "(run.streams and run.cancel_at)", "run.streams"),
    # -- the rest ----------------------------------------------------------------------------------
    _one("-", "an agent forgets an attempt before its end is stored", f"{AGENT}._publish",
         "stored = attempt.stored if instruction.last else None",
         "stored = attempt.stored(0, 0) if instruction.last else None"),
    _one("-", "retries without bound", "coordinator.policy:may_retry",
         "return task.failures < spec.retries", "return True"),
    _one("-", "a cancelled run is run when its last part comes", f"{OBSERVER}._observe_run",
         "if run.cancel_at:", "if False:"),
    _one("W4", "a beat names nothing that is held", f"{MACHINE}.held",
         "for token, attempt in self.attempts.items()", "for token, attempt in ()"),
)  # fmt: skip
