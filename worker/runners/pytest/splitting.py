"""Where a shard may stop. Rule: what a fixture of a module, class or package serves is not divided
unless the split mode says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from zlib import crc32

NAMED_BYTES_MAX = 150_000
"""Most bytes of the ids of one file that are told."""
REST_BYTES_MAX = 40_000
"""The same for what is left of a shard: the value of an attempt is bounded."""
_SHARED = frozenset({"module", "class", "package"})


def scoped(items: Iterable[Any]) -> bool:
    """Fixtures of a module, class or package are in use: splitting the file sets them up again.

    Every unittest class has such a fixture for `setUpClass`; it counts where that does something.
    """
    seen: dict[int, bool] = {}
    for item in items:
        info = getattr(item, "_fixtureinfo", None)
        for name, definitions in getattr(info, "name2fixturedefs", {}).items():
            for definition in definitions:
                known = seen.get(id(definition))
                if known is None:
                    known = seen[id(definition)] = _shares(name, definition, item)
                if known:
                    return True
    return False


def _shares(name: str, definition: Any, item: Any) -> bool:
    if str(getattr(definition, "scope", "")) not in _SHARED:
        return False
    if not name.startswith("_unittest_setUpClass"):
        return True
    made = getattr(item, "cls", None)
    return any(_overridden(made, hook) for hook in ("setUpClass", "tearDownClass"))


def _overridden(made: Any, hook: str) -> bool:
    from unittest import TestCase

    own = getattr(getattr(made, hook, None), "__func__", None)
    return own is not getattr(TestCase, hook).__func__


def may_stop(split: str, one: str, following: str, *, shared: bool) -> bool:
    """Whether a shard may stop between two cases, by node id; `shared`: the file is `scoped`."""
    if one.partition("::")[0] != following.partition("::")[0]:
        return True
    if split == "class":
        return _class_of(one) != _class_of(following)
    return split not in ("file", "group") and not (split == "auto" and shared)


def part_of(case_id: str, count: int, split: str) -> int:
    """Which of `count` parts of its file a case is in, as the planner computes it, too."""
    key = _class_of(case_id) if split == "class" else case_id
    return crc32(key.encode("utf-8", "surrogatepass")) % count


def rest_told(rest: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """What is left of each file; without ids where they are too many to name."""
    told, size = [], 0
    for path, ids in rest.items():
        size += sum(len(name.encode("utf-8", "surrogatepass")) + 4 for name in ids)
        told.append({"path": path, "ids": ids} if size <= REST_BYTES_MAX else {"path": path})
    return told


def _class_of(case_id: str) -> str:
    return case_id.partition("[")[0].rpartition("::")[0]
