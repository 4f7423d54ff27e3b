"""How a pytest run is dealt out to the slots of a pool, while it runs.

Rule: a case is dealt once; only what a shard took with it unreported is dealt again, a bounded
number of times. What is worth most goes first, and pieces shrink towards the end, so that all
slots end together.

Pure: facts come in by `on_...`, shards go out. Guided self-scheduling (Polychronopoulos and Kuck,
1987) over pieces sorted longest first (Graham's LPT).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Any

from msgspec import Struct

from .shard_files import (
    PARTS_MIN_CASES,
    UNKNOWN_US,
    FileSeen,
    Piece,
    SplitMode,
    cut,
    p75,
    units_of,
)

AHEAD = 2
"""Shards outstanding for each slot: one runs, one waits, so that no slot waits for a round trip."""
SHARES = 3
"""A shard is worth about what is left over slots * SHARES."""
SHARES_KNOWN = 2
"""The same where durations are known: larger, for each shard costs its start."""
SHARD_US_MIN = 50_000
"""Below this the round trip of a shard costs more than its balance gains."""
BUDGET_MS = 250
BUDGET_MS_FEW = 100
"""Budget of a first shard where there are fewer files than places: the others wait for it."""
FILES_MAX = 200
IDS_BYTES_MAX = 60_000
"""Most files, and bytes of ids, a shard names."""
DEALT_MAX = 3
"""How often what ended unreported is dealt."""


class Shard(Struct, frozen=True, kw_only=True, gc=False):
    """One task of the run.

    `params` is the task's parameter object. `weight_us` is what it is believed to last, `number`
    counts from 0 in one planner.
    """

    number: int
    params: dict[str, Any]
    weight_us: int


class _Out(Struct):
    pieces: list[Piece]
    reported: int = 0


class Planner:
    """Decides which cases go into which task of one pytest run.

    Call `start`, submit and `bind` its shards, tell every fact of the log, and submit what
    `on_settled` returns, until `done`. Each case costs amortised O(log n).

    `files`: paths as in node ids, in the order of plain pytest. `slots`: shards that run at once,
    at least 1. `history`: microseconds by file and case id; the id "" of a file is 1 when fixtures
    of its modules, classes or packages are in use. `selected`: for files that are asked for in
    part, the node ids (whole, or of a class or function) on the command line. `split`: where a
    file may be divided: `auto` (between cases, unless such fixtures are in use), `case`, `class`,
    `group`, `file` (not at all; `module` is the same). `budget_ms`: of a first shard without
    history; None lets the planner choose.
    """

    def __init__(
        self,
        files: Sequence[str],
        *,
        slots: int,
        history: Mapping[str, Mapping[str, int]] | None = None,
        split: SplitMode = "auto",
        selected: Mapping[str, Sequence[str]] | None = None,
        budget_ms: int | None = None,
    ) -> None:
        if slots < 1:
            raise ValueError(f"slots is {slots}; a run needs at least 1")
        if budget_ms is not None and budget_ms < 1:
            raise ValueError(f"budget_ms is {budget_ms}; a first shard needs at least 1")
        if split not in ("auto", "case", "class", "group", "file", "module"):
            raise ValueError(f"split is {split!r}; use auto, case, class, group, file or module")
        self.slots = slots
        self.split: SplitMode = "file" if split == "module" else split
        self.lost: dict[str, list[str]] = {}
        """By file, ids that ended unreported too often; an empty list: what else it holds."""
        few = len(files) < slots * AHEAD
        self._budget_ms = budget_ms or (BUDGET_MS_FEW if few else BUDGET_MS)
        self._files: dict[str, FileSeen] = {}
        self._reported: set[str] = set()
        self._ready: list[tuple[int, int, Piece]] = []
        """A heap, the longest first; equal ones in the order they came."""
        self._left_us = 0
        self._pushed = 0
        self._number = 0
        self._out: dict[int, _Out] = {}
        self._tasks: dict[str, int] = {}
        self._plan(files, history or {}, selected or {})

    @property
    def done(self) -> bool:
        """Nothing is outstanding and nothing is left to deal."""
        return not self._out and not self._ready

    def wants_all(self, file: str) -> bool:
        """Whether every case of the file is to be run, not only some that were asked for."""
        return self._files[file].asked is None

    def start(self) -> list[Shard]:
        """The first shards, in the order they should run. Call once."""
        return self._deal()

    def bind(self, shard: Shard, task: str) -> None:
        """The shard runs as this task from now on."""
        self._tasks[task] = shard.number

    def on_collected(
        self,
        task: str,
        file: str,
        ids: Sequence[str],
        selected: int,
        *,
        scoped: bool = False,
        groups: Mapping[str, str] | None = None,
    ) -> None:
        """A shard found `selected` cases in a file; `ids` are all of them, or none of them named.

        `groups`: the group of each case that has one (split `group`).
        """
        seen = self._files.get(file)
        if seen is None:
            return
        seen.scoped, seen.selected = scoped, selected
        if ids:
            seen.order = {each: place for place, each in enumerate(ids)}
        seen.groups.update(groups or {})

    def on_case(self, task: str, case_id: str, duration_us: int | None) -> bool:
        """A case ended; False when it is known already (an attempt that was repeated)."""
        if case_id in self._reported:
            return False
        self._reported.add(case_id)
        if task in self._tasks:
            self._out[self._tasks[task]].reported += 1
        seen = self._files.get(case_id.partition("::")[0])
        if seen is not None:
            seen.add_reported(case_id, duration_us)
        return True

    def on_settled(self, task: str, value: Mapping[str, Any] | None) -> list[Shard]:
        """The task ended; what is to be submitted now.

        `value` is the value of its last attempt; None when it has none (lost, killed, cancelled),
        and then whatever was not reported of it is dealt again.
        """
        number = self._tasks.pop(task, None)
        out = self._out.pop(number, None) if number is not None else None
        if out is not None:
            if value is None:
                self._again(out.pieces)
            else:
                self._rest(out, value.get("rest") or [])
        return self._deal()

    # What there is to deal

    def _plan(
        self,
        files: Sequence[str],
        history: Mapping[str, Mapping[str, int]],
        selected: Mapping[str, Sequence[str]],
    ) -> None:
        for path in dict.fromkeys(files):
            asked = selected.get(path)
            self._files[path] = FileSeen.of(path, history.get(path, {}), asked)
        known = [seen for seen in self._files.values() if seen.history]
        new_us = p75([seen.total_us for seen in known], 0)
        total = sum(seen.total_us or new_us for seen in self._files.values())
        big_us = max(total // (self.slots * 4), SHARD_US_MIN)
        for seen in self._files.values():
            if not seen.history:
                self._push(seen.whole(new_us, first=True))
            elif seen.total_us > big_us and seen.nameable:
                self._push_all(cut(seen, self.split, SHARD_US_MIN // 2, self.slots))
            else:
                self._push(seen.whole(seen.total_us))
        heapify(self._ready)

    def _push_all(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            self._push(piece)

    def _push(self, piece: Piece) -> None:
        self._pushed += 1
        self._left_us += piece.cost_us
        heappush(self._ready, (-_rank(piece.cost_us), self._pushed, piece))

    def _pop(self) -> Piece:
        piece = heappop(self._ready)[2]
        self._left_us -= piece.cost_us
        return piece

    # What goes out

    def _deal(self) -> list[Shard]:
        shards = []
        while self._ready and len(self._out) < self.slots * AHEAD:
            shards.append(self._next())
        return shards

    def _next(self) -> Shard:
        """The pieces worth most, up to a fair share of what is left."""
        shares = SHARES_KNOWN if self._ready[0][2].known else SHARES
        share = max(self._left_us // (self.slots * shares), SHARD_US_MIN)
        count_max = max(1, -(-len(self._ready) // (self.slots * SHARES)))
        pieces = [self._pop()]
        weight, size = pieces[0].cost_us, pieces[0].ids_bytes
        while self._ready and len(pieces) < FILES_MAX * 50:
            piece = self._ready[0][2]
            unsure = not piece.known and (not piece.cost_us or piece.first)
            if unsure and len(pieces) >= min(count_max, FILES_MAX):
                break
            if weight + piece.cost_us > share * 5 // 4 or size + piece.ids_bytes > IDS_BYTES_MAX:
                break
            pieces.append(self._pop())
            weight, size = weight + piece.cost_us, size + piece.ids_bytes
        number, self._number = self._number, self._number + 1
        shard = Shard(number=number, params=self._params(pieces, weight), weight_us=weight)
        self._out[number] = _Out(pieces)
        return shard

    def _params(self, pieces: Sequence[Piece], weight_us: int) -> dict[str, Any]:
        by_path: dict[str, list[Piece]] = {}
        for piece in pieces:
            by_path.setdefault(piece.path, []).append(piece)
        files = [
            entry for path, of_it in by_path.items() for entry in self._files[path].entries(of_it)
        ]
        params: dict[str, Any] = {"files": files, "split": self.split}
        if any(piece.first for piece in pieces):
            params |= {"budget_ms": self._budget_ms, "ids_wanted": True}
        elif all(piece.may_stop for piece in pieces):
            sure = all(piece.known for piece in pieces)
            factor, least = (4, 1000) if sure else (2, self._budget_ms)
            params["budget_ms"] = max(weight_us * factor // 1000, least)
        return params

    # What comes back

    def _rest(self, out: _Out, rest: Sequence[Mapping[str, Any]]) -> None:
        """The runner stopped at its budget, and says what is left.

        A shard that reported nothing counts as one that ended unreported, so that this ends.
        """
        dealt: dict[str, list[Piece]] = {}
        for piece in out.pieces:
            dealt.setdefault(piece.path, []).append(piece)
        for entry in rest:
            pieces, ids = dealt.pop(str(entry.get("path", "")), []), entry.get("ids")
            if pieces and ids is None:  # not begun, or too many to name
                self._again(pieces, count=not out.reported)
            elif pieces:
                left = _held(pieces, list(ids or ()), self.split)
                times = max(piece.dealt for piece in pieces) + (not out.reported)
                self._divide(self._files[pieces[0].path], left, times)

    def _again(self, pieces: Sequence[Piece], *, count: bool = True) -> None:
        """What was not reported of these is dealt again."""
        for piece in pieces:
            seen, dealt = self._files[piece.path], piece.dealt + count
            named = piece.ids is not None and piece.exact
            if named:
                ids = [each for each in piece.ids or () if each not in self._reported]
            elif seen.order and not piece.skip:
                held = (each for each in seen.order if piece.holds(each, self.split))
                ids, named = [each for each in held if each not in self._reported], True
            if named and not ids:
                continue
            if named:
                self._divide(seen, ids, dealt)
            elif dealt >= DEALT_MAX:
                self.lost.setdefault(piece.path, [])
            elif self._by_number(seen, piece):
                lots = self.slots * SHARES * 2
                cost_us = max(seen.selected * seen.new_us - seen.measured_us, 0)
                for part in seen.parts(lots, cost_us, self.split, dealt):
                    self._push(part)
            else:
                more = (each for each in seen.reported if piece.holds(each, self.split))
                skip = piece.skip.union(more)
                self._push(piece.repeated(skip, seen, dealt, first=not seen.reported))

    def _by_number(self, seen: FileSeen, piece: Piece) -> bool:
        """The whole of a large file whose cases were not named."""
        whole = piece.ids is None and piece.part is None and not seen.history
        return whole and seen.selected >= PARTS_MIN_CASES and seen.divisible(self.split)

    def _divide(self, seen: FileSeen, ids: Sequence[str], dealt: int) -> None:
        """Named cases become pieces as small as the split allows.

        Cases nobody measured are taken from both ends in turn: neighbours are alike, so where the
        long ones come last (or first) they are found early.
        """
        ids = [each for each in dict.fromkeys(ids) if each not in self._reported]
        if dealt >= DEALT_MAX:
            self.lost.setdefault(seen.path, []).extend(ids)
            return
        each_us = seen.new_us or UNKNOWN_US
        units = units_of(seen, ids, self.split)
        units = [units[place] for place in _both_ends(len(units))]
        for unit in units:
            known = all(each in seen.history for each in unit)
            cost = sum(seen.history.get(each, each_us) for each in unit)
            self._push(Piece(seen.path, tuple(unit), cost_us=cost, known=known, dealt=dealt))


def _held(pieces: Sequence[Piece], ids: Sequence[str], split: SplitMode) -> list[str]:
    """The ids that these pieces hold."""
    named: set[str] = set()
    named.update(*(piece.ids or () for piece in pieces))
    open_ = [piece for piece in pieces if piece.ids is None or not piece.exact]
    return [
        each for each in ids if each in named or any(piece.holds(each, split) for piece in open_)
    ]


def _both_ends(count: int) -> list[int]:
    """0, count-1, 1, count-2, ..."""
    return [place // 2 if place % 2 == 0 else count - 1 - place // 2 for place in range(count)]


def _rank(cost_us: int) -> int:
    """A coarse logarithm (steps of an eighth to a quarter): neighbours in a file stay together."""
    bits = max(cost_us.bit_length() - 3, 0)
    return bits * 8 + (cost_us >> bits)
