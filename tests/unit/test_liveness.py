"""Who is alive: loss needs the leader's own beat, and every rule that keeps a healthy worker."""

from __future__ import annotations

from dtf.coordinator.liveness import Connection, Liveness
from dtf.coordinator.overdue import Limits
from dtf.core import events as e
from dtf.core.codec import encode_batch
from dtf.core.fold import Fold
from dtf.core.ids import run_id
from dtf.core.model import TaskSpec
from dtf.core.ports import Message
from dtf.core.state import Pool

MS = 1_000_000


def pool_with(*workers: str, wall_ms: int = 1000) -> Fold:
    """A pool where each worker holds one attempt, token "g-<n>.1.1.n<n>"."""
    fold = Fold("main")
    run = run_id("me", "k")
    spec = TaskSpec(command=["x"], wall_ms=wall_ms, grace_ms=0)
    script: list[tuple[str, list[e.Event]]] = [
        ("pool", [e.PoolCreated(uuid="u", name="main")]),
        ("leader", [e.LeaderElected(term=1, coordinator="c", nonce="n")]),
        (
            f"run.me.{run}",
            [
                e.RunSubmitted(key="k"),
                e.TasksSubmitted(part=0, group="g", spec=spec, count=9),
                e.RunSealed(parts=1, tasks=9),
            ],
        ),
    ]
    for number, name in enumerate(workers):
        join = e.WorkerJoined(
            incarnation=f"i-{name}",
            hardware=["cpu"],
            cpu_milli=1,
            memory_bytes=1,
            server_id="S",
            client_id=number,
        )
        token = f"g-{number}.1.1.n{number}"
        assigned = e.TaskAssigned(term=1, run=run, token=token, incarnation=f"i-{name}")
        script += [(f"worker.{name}", [join]), (f"assign.cpu.{name}", [assigned])]
        script.append((f"attempt.{name}.{run}", [e.AttemptStarted(token=token)]))
    for sequence, (subject, events) in enumerate(script, start=1):
        judged = fold.apply(Message(sequence, f"dtf.main.{subject}", encode_batch(events)))
        assert not any(judged.voids), judged
    return fold


def liveness(pool: Pool) -> Liveness:
    alive = Liveness(pool, silence_ms=4000)
    alive.elected(0)
    return alive


def beat(name: str, **facts: object) -> e.Heartbeat:
    return e.Heartbeat(incarnation=f"i-{name}", **facts)  # type: ignore[arg-type]


def test_w5_a_silent_worker_is_lost_after_a_full_limit() -> None:
    alive = liveness(pool_with("a", "b").pool)
    alive.beat("a", beat("a"), 1000 * MS)
    alive.beat("b", beat("b"), 1000 * MS)
    alive.beat("b", beat("b"), 4500 * MS)
    assert alive.own_beat(4999 * MS) == []
    assert alive.own_beat(5000 * MS) == [("a", "i-a")]


def test_w5_a_blocked_leader_declares_nobody_lost() -> None:
    """Its own beat comes after everything the workers said while it was blocked."""
    alive = liveness(pool_with("a").pool)
    alive.beat("a", beat("a"), 1000 * MS)
    alive.beat("a", beat("a"), 59_000 * MS)
    assert alive.own_beat(60_000 * MS) == []


def test_w5_a_new_leader_gives_everyone_a_full_limit() -> None:
    alive = liveness(pool_with("a").pool)
    alive.beat("a", beat("a"), 1000 * MS)
    alive.elected(100_000 * MS)
    assert alive.own_beat(103_000 * MS) == []
    assert alive.own_beat(105_000 * MS) == [], "first notice of the worker in this term"
    assert alive.own_beat(109_000 * MS) == [("a", "i-a")]


def test_a_server_clock_set_back_loses_nobody_and_hides_nobody() -> None:
    alive = liveness(pool_with("a", "b").pool)
    alive.elected(1_000_000 * MS)
    alive.beat("a", beat("a"), 1_000_500 * MS)
    alive.beat("b", beat("b"), 1_000_500 * MS)
    assert alive.own_beat(1000 * MS) == [], "an hour back"
    alive.beat("b", beat("b"), 5000 * MS)
    assert alive.own_beat(5500 * MS) == [], "first full limit by the new time"
    alive.beat("b", beat("b"), 9000 * MS)
    assert alive.own_beat(9600 * MS) == [("a", "i-a")]


def test_beats_of_another_incarnation_say_nothing() -> None:
    alive = liveness(pool_with("a").pool)
    alive.beat("a", beat("a"), 1000 * MS)
    alive.beat("a", e.Heartbeat(incarnation="older"), 5000 * MS)
    assert alive.own_beat(6000 * MS) == [("a", "i-a")]


def test_w4_a_token_absent_from_two_later_beats_was_never_received() -> None:
    pool = pool_with("a").pool
    token = next(iter(pool.open))
    alive = liveness(pool)
    late = pool.open[token].assigned_at
    assert alive.beat("a", beat("a", sequence=late - 1), 0) == [], "sent before the assignment"
    assert alive.beat("a", beat("a", sequence=late), 0) == []
    assert alive.beat("a", beat("a", sequence=late), 0) == [token]


def test_w4_a_held_token_is_fine() -> None:
    pool = pool_with("a").pool
    token = next(iter(pool.open))
    alive = liveness(pool)
    for _ in range(3):
        assert alive.beat("a", beat("a", sequence=99, held=[f"r/{token}"]), 0) == []


def test_w6_a_disconnect_counts_for_the_current_connection_only() -> None:
    alive = liveness(pool_with("a", "b").pool)
    assert alive.disconnected(Connection("S", 1)) == ("b", "i-b")
    alive.beat("b", beat("b", server_id="S", client_id=77), 0)
    assert alive.disconnected(Connection("S", 1)) is None
    assert alive.disconnected(Connection("S", 77)) == ("b", "i-b")
    assert alive.disconnected(Connection("OTHER", 77)) is None


def test_a7_the_leader_backs_up_the_wall_limit_later_than_the_worker() -> None:
    pool = pool_with("a", wall_ms=1000).pool
    token = next(iter(pool.open))
    limits = Limits()
    assert limits.check(pool, 100.0) == ([], [])
    assert limits.check(pool, 106.0) == ([], []), "10 % and 5 s later than the worker"
    assert limits.check(pool, 106.2).kill == [token]
    assert limits.check(pool, 107.0) == ([], []), "asked once"
    assert limits.check(pool, 117.0).disobeyed == [("a", "i-a")]
