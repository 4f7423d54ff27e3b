"""What a pytest run knows of its files, and where a file may be cut.

Rule: a cut never falls inside what shares a fixture, as far as the split mode promises it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal
from zlib import crc32

from msgspec import Struct, field

SplitMode = Literal["auto", "case", "class", "group", "file", "module"]
SCOPED = ""
"""The key, among the cases of a file in a history, that says fixtures are shared in it."""
UNKNOWN_US = 10_000
"""A case nobody knows anything about."""
NOT_BYTES_MAX = 100_000
"""Most bytes of ids a piece may exclude; a file with more is divided by number."""
PARTS_MIN_CASES = 500
"""A file whose cases cannot be named is divided by number from so many on."""


class Piece(Struct, frozen=True, gc=False, eq=False):
    """Cases of one file that stay together.

    `ids` None: all cases of the file but `skip`, or those of its `part` (number, of how many) by
    `part_of`. `first`: nothing is known of it. `dealt`: how
    often it ended unreported. `exact`: the ids are those of cases, not of classes or
    functions. `may_stop`: what would be left of it can be named.
    """

    path: str
    ids: tuple[str, ...] | None
    skip: frozenset[str] = frozenset()
    cost_us: int = 0
    known: bool = False
    first: bool = False
    dealt: int = 0
    exact: bool = True
    may_stop: bool = True
    part: tuple[int, int] | None = None

    def holds(self, case_id: str, split: SplitMode) -> bool:
        """Whether a case of its file is in it; for pieces that do not name their cases."""
        if case_id in self.skip:
            return False
        return self.part is None or part_of(case_id, self.part[1], split) == self.part[0]

    @property
    def ids_bytes(self) -> int:
        """Bytes its ids take in a message, about."""
        return sum(map(len, self.ids or ())) + sum(map(len, self.skip))

    def repeated(self, skip: frozenset[str], seen: FileSeen, dealt: int, *, first: bool) -> Piece:
        """The piece without what has been reported of its file."""
        return Piece(
            self.path,
            self.ids,
            skip=skip,
            cost_us=max(self.cost_us - seen.measured_us, 0),
            first=first,
            dealt=dealt,
            exact=self.exact,
            may_stop=self.may_stop and sum(map(len, skip)) <= NOT_BYTES_MAX,
            part=self.part,
        )


class FileSeen(Struct, gc=False, eq=False):
    """One file of the run. `asked`: what the user named of it, None for all."""

    path: str
    history: dict[str, int]
    asked: tuple[str, ...] | None
    scoped: bool | None
    total_us: int
    nameable: bool = True
    order: dict[str, int] = field(default_factory=dict)
    selected: int = 0
    groups: dict[str, str] = field(default_factory=dict)
    _reported: list[str] = field(default_factory=list)
    _measured: list[int] = field(default_factory=list)
    _new_us: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, path: str, history: Mapping[str, int], asked: Sequence[str] | None) -> FileSeen:
        """What the history says of it; of a part that is asked for, only of that part.

        Cases can be named only if everything asked for is a case (not a class or a function with
        parameters), or nothing was.
        """
        known = {each: max(int(us), 0) for each, us in history.items() if each != SCOPED}
        nameable = True
        if asked is not None:
            nameable = all(each in known for each in asked)
            known = {each: us for each, us in known.items() if _is_asked(each, asked)}
        scoped = bool(history.get(SCOPED)) if known else None
        total = sum(known.values())
        kept = tuple(dict.fromkeys(asked)) if asked is not None else None
        return cls(path, known, kept, scoped, total, nameable)

    def whole(self, cost_us: int, *, first: bool = False) -> Piece:
        """All that is asked for of it, in one piece."""
        return Piece(
            self.path,
            self.asked,
            cost_us=cost_us,
            known=not first,
            first=first,
            exact=self.nameable,
        )

    @property
    def reported(self) -> frozenset[str]:
        """Cases of it that ended."""
        return frozenset(self._reported)

    @property
    def measured_us(self) -> int:
        """What they lasted together."""
        return sum(self._measured)

    @property
    def new_us(self) -> int:
        """What a case of it that nobody measured may last; 0 when nothing is known of the file."""
        count = len(self._measured)
        if not self._new_us[1] or count > self._new_us[0]:
            values = self._measured or list(self.history.values())
            self._new_us = (count, p75(values, 0))
        return self._new_us[1]

    def add_reported(self, case_id: str, duration_us: int | None) -> None:
        """One of its cases ended."""
        self._reported.append(case_id)
        if duration_us is not None:
            self._measured.append(duration_us)

    def entries(self, pieces: Sequence[Piece]) -> list[dict[str, Any]]:
        """These pieces of it, as the parameters of a task name them."""
        found = []
        for piece in (each for each in pieces if each.part is not None):
            told: dict[str, Any] = {"path": self.path, "part": piece.part}
            found.append(told | ({"not": sorted(piece.skip)} if piece.skip else {}))
        others = [each for each in pieces if each.part is None]
        return found + ([self._entry(others)] if others else [])

    def _entry(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        ids = [each for piece in pieces for each in piece.ids or ()]
        skip = {each for piece in pieces for each in piece.skip}
        if any(piece.ids is None for piece in pieces):
            skip.difference_update(ids)
            ids = []
        elif self.order:
            ids.sort(key=lambda each: self.order.get(each, len(self.order)))
        named = {"ids": ids} if ids else {}
        return {"path": self.path, **named, **({"not": sorted(skip)} if skip else {})}

    def divisible(self, split: SplitMode) -> bool:
        """It may be cut between cases or classes."""
        return split in ("case", "class") or (split == "auto" and not self.scoped)

    def parts(self, count: int, cost_us: int, split: SplitMode, dealt: int = 0) -> list[Piece]:
        """All of it but what was reported, divided by number."""
        skips: list[set[str]] = [set() for _ in range(count)]
        for each in self._reported:
            skips[part_of(each, count, split)].add(each)
        costs = [0] * count
        for each, us in self.history.items():
            costs[part_of(each, count, split)] += us
        return [
            Piece(
                self.path,
                None,
                skip=frozenset(skips[number]),
                cost_us=costs[number] or cost_us // count,
                known=bool(costs[number]),
                dealt=dealt,
                may_stop=False,
                part=(number, count),
            )
            for number in range(count)
        ]


def _is_asked(case_id: str, asked: Iterable[str]) -> bool:
    return any(
        case_id == each or (case_id.startswith(each) and case_id[len(each)] in ":[")
        for each in asked
    )


def p75(values: Sequence[int], otherwise: int) -> int:
    """The third quartile; `otherwise` of nothing."""
    return sorted(values)[len(values) * 3 // 4] if values else otherwise


def units_of(seen: FileSeen, ids: Sequence[str], split: SplitMode) -> list[list[str]]:
    """The ids in the smallest lots that the split mode allows, in the order of their first ones."""
    if (
        split == "file"
        or (split == "auto" and seen.scoped)
        or (split == "group" and not seen.groups)
    ):
        return [list(ids)] if ids else []
    if split in ("auto", "case"):
        return [[each] for each in ids]
    lots: dict[str, list[str]] = defaultdict(list)
    for each in ids:
        group = seen.groups.get(each, "") if split == "group" else ""
        key = f"group {group}" if group else (each if split == "group" else class_of(each))
        lots[key].append(each)
    return list(lots.values())


def part_of(case_id: str, count: int, split: SplitMode) -> int:
    """Which of `count` parts of its file a case is in; a class stays together where it should.

    The runner computes the same (`worker/runners/pytest/splitting.py`).
    """
    key = class_of(case_id) if split == "class" else case_id
    return crc32(key.encode("utf-8", "surrogatepass")) % count


def class_of(case_id: str) -> str:
    """File and classes of a node id: what is left without the function and its parameters."""
    return case_id.partition("[")[0].rpartition("::")[0]


def cut(seen: FileSeen, split: SplitMode, least_us: int, slots: int) -> list[Piece]:
    """A file with a history in pieces, in its order; neighbours below `least_us` stay together.

    One of them is everything but the others, so that cases nobody knows yet are run too. Where
    naming the others takes too much, the file is divided by number.
    """
    too_many = sum(map(len, seen.history)) > NOT_BYTES_MAX
    if too_many and seen.asked is None and seen.divisible(split):
        return seen.parts(max(2, min(slots * 16, seen.total_us // least_us)), 0, split)
    blocks = _blocks(seen, split, least_us)
    if len(blocks) < 2:
        return [seen.whole(seen.total_us)]
    if seen.asked is not None:
        return [_named(seen, block) for block in blocks]
    most = max(blocks, key=len)
    kept = [block for block in blocks if block is not most]
    skip = frozenset(each for block in kept for each in block)
    cost = sum(seen.history[each] for each in most)
    rest = Piece(seen.path, None, skip=skip, cost_us=cost, known=True)
    return [*(_named(seen, block) for block in kept), rest]


def _named(seen: FileSeen, block: Sequence[str]) -> Piece:
    cost = sum(seen.history[each] for each in block)
    return Piece(seen.path, tuple(block), cost_us=cost, known=True)


def _blocks(seen: FileSeen, split: SplitMode, least_us: int) -> list[list[str]]:
    """Units, small neighbours joined."""
    blocks: list[list[str]] = []
    open_us = least_us
    for unit in units_of(seen, list(seen.history), "file" if split == "group" else split):
        cost = sum(seen.history[each] for each in unit)
        if open_us >= least_us or cost >= least_us:
            blocks.append([])
            open_us = 0
        blocks[-1].extend(unit)
        open_us += cost
    return blocks
