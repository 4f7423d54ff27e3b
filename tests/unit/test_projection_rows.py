"""Rows are a function of the log alone, whenever they are taken and the projector starts anew."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
import pytest
from dtf.core.ports import Message
from dtf.core.snapshot import decode_pool, encode_pool
from dtf.core.state import VERDICTS, digest
from dtf.projections.ledger import LIVE_KEYS, Delta, Ledger
from dtf.projections.memo import load, save, settle_in
from dtf.projections.records import Row
from dtf.projections.rows import feed
from projection_world import World

SEEDS = range(60)
KEY_PLACES = {
    "attempts": (5,), "tasks": (0, 1), "tallies": (0,), "runs": (1,), "workers": (0,),
}  # fmt: skip


class Tables:
    """What a file would hold."""

    def __init__(self) -> None:
        self.facts: dict[str, list[Row]] = {}
        self.live: dict[str, dict[Row, Row]] = {name: {} for name in LIVE_KEYS}

    def write(self, delta: Delta) -> None:
        for name, rows in delta.facts.items():
            self.facts.setdefault(name, []).extend(rows)
        for name, change in delta.live.items():
            for key in change.gone:
                del self.live[name][key]
            for row in change.rows:
                key = tuple(row[place] for place in KEY_PLACES[name])
                assert key not in self.live[name], f"two live rows in {name} for {key}"
                self.live[name][key] = row

    def hashable(self) -> dict[str, Counter[str]]:
        found = {f"fact.{name}": Counter(map(repr, rows)) for name, rows in self.facts.items()}
        return found | {f"live.{n}": Counter(map(repr, r.values())) for n, r in self.live.items()}


def project(log: Sequence[Message], takes: Iterable[int] = ()) -> tuple[Ledger, Tables]:
    """The log read once, taken after the given sequences and at its end."""
    ledger, tables, when = Ledger("main"), Tables(), set(takes)
    for message in log:
        feed(ledger, message)
        if message.sequence in when:
            tables.write(ledger.take())
    tables.write(ledger.take())
    return ledger, tables


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_do_not_depend_on_when_they_are_taken(seed: int) -> None:
    log = World(seed).grow(250)
    chance = random.Random(seed)
    takes = [m.sequence for m in log if chance.random() < 0.2]
    _, cold = project(log)
    _, often = project(log, takes)
    assert often.hashable() == cold.hashable()


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_survive_restarts_from_any_snapshot(seed: int) -> None:
    """Rows and position P are stored with a snapshot at S <= P; what is between is folded again."""
    log = World(seed).grow(250)
    chance = random.Random(seed)
    ledger, tables = Ledger("main"), Tables()
    saved, saved_at, stored_at = save(ledger), 0, 0
    place = 0
    while place < len(log):
        feed(ledger, log[place])
        place += 1
        if chance.random() < 0.15:
            tables.write(ledger.take())
            stored_at = place
            if chance.random() < 0.4:
                saved, saved_at = save(ledger), place
        if chance.random() < 0.04:
            ledger = load("main", *saved)
            for message in log[saved_at:stored_at]:
                feed(ledger, message)
            settle_in(ledger)
            place = stored_at
    tables.write(ledger.take())
    _, cold = project(log)
    assert tables.hashable() == cold.hashable()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_restored_fold_is_the_same_and_stays_the_same(seed: int) -> None:
    log = World(seed).grow(250)
    cut = random.Random(seed).randrange(len(log))
    whole, restored = Ledger("main"), Ledger("main")
    for message in log[:cut]:
        feed(restored, message)
    pool = decode_pool(encode_pool(restored.pool))
    assert digest(pool) == digest(restored.pool)
    restored = load("main", *save(restored))
    for message in log:
        feed(whole, message)
    for message in log[cut:]:
        feed(restored, message)
    assert digest(restored.pool) == digest(whole.pool)
    assert save(restored) == save(whole)


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_agree_with_the_fold(seed: int) -> None:
    log = World(seed).grow(250)
    ledger, tables = project(log)
    pool = ledger.pool
    assert "fold_error" not in pool.voids
    assert {row[3] for row in tables.live["attempts"].values()} == set(pool.open)
    for run in pool.runs.values():
        if run.settled:
            continue
        record = ledger.runs[run.id]
        assert {name for name, t in run.tasks.items() if not t.settled} == set(record.tasks)
        assert tables.live["runs"][(record.key,)] == record.row()
        for group in record.groups.values():
            told: Counter[str] = Counter()
            for row in tables.facts.get("tasks", []):
                if row[0] == group.pos:
                    told[VERDICTS[row[2] - 1]] += 1
            for row in tables.facts.get("ranges", []):
                if row[0] == group.pos:
                    told[row[3]] += row[2] - row[1]
            assert group.tally(0)[3:] == tuple(told[verdict] for verdict in VERDICTS)
            assert group.group.settled == sum(told.values())
    for row in tables.facts.get("runs", []):
        tasks, queued, active, settled = row[13:17]
        assert (queued + settled, active) == (tasks, 0)
        assert sum(row[17:25]) == settled
    voids = sum(row[7] for row in tables.facts.get("voids", []))
    assert voids == sum(pool.voids.values())


def test_every_settled_task_is_in_one_row_or_one_range() -> None:
    for seed in SEEDS:
        _, tables = project(World(seed).grow(250))
        alone = [(row[0], row[1]) for row in tables.facts.get("tasks", [])]
        ranged = [
            (row[0], index)
            for row in tables.facts.get("ranges", [])
            for index in range(row[1], row[2])
        ]
        assert len(alone + ranged) == len(set(alone + ranged)), f"seed {seed}"


def test_hostile_messages_make_few_rows() -> None:
    world = World(0)
    world.grow(0)
    world.write_raw("run.ann.x", b"[" + b"0," * 8_999 + b"0]")
    _, tables = project(world.log)
    rows = [row for row in tables.facts["voids"] if row[0].endswith("run.ann.x")]
    assert len(rows) == 257
    assert sum(row[7] for row in rows) == 9_000
    assert rows[-1][5] == "more"


def test_values_pass_through_undecoded() -> None:
    """JSON of arguments and results arrives as it was written, byte for byte."""
    raw = msgspec.Raw(b'{"a" : [1, 2.50]}')
    from dtf.projections.records import text

    assert text(raw) == '{"a" : [1, 2.50]}'
