"""Many tasks from few lines: counts, lists of parameters and matrices.

Rule: a plain product stays a product, however large; only what cannot be said as one is written
out.

Pure. The parameter `hardware` also decides what a task needs, so an array becomes one group for
each hardware class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

import msgspec
from msgspec import Raw

from .errors import InvalidSuite
from .labels import task_label
from .model import Axis
from .selection import (
    HARDWARE_AXIS,
    Filters,
    hardware_matches,
    label_test,
    params_match,
    value_matches,
)
from .submit import json_items

WRITTEN_OUT_MAX = 1_000_000
"""Most combinations of a matrix that is not a plain product."""
Params = dict[str, Any]


class Matrix(msgspec.Struct, frozen=True, kw_only=True):
    """The product of the axes (last one fastest), less what `exclude` names, and with what
    `include` adds.
    """

    axes: dict[str, list[Any]]
    include: list[Params] = []
    """Whole combinations; one that exists already is not added twice."""
    exclude: list[dict[str, list[Any]]] = []
    """Axis -> values: combinations that have one of the values on each named axis."""

    @property
    def plain(self) -> bool:
        """It is just the product of its axes."""
        return not (self.include or self.exclude)

    @property
    def product_size(self) -> int:
        """Combinations of the axes alone."""
        return prod(len(values) for values in self.axes.values())

    def combinations(self) -> Iterator[Params]:
        """Every combination once, in order."""
        seen: set[bytes] = set()
        wanted = {_key(entry) for entry in self.include}
        for values in product(*self.axes.values()):
            params = dict(zip(self.axes, values, strict=True))
            if self.exclude and self._excluded(params):
                continue
            if wanted:
                seen.add(_key(params))
            yield params
        for entry in self.include:
            if _key(entry) not in seen:
                seen.add(_key(entry))
                yield {name: entry[name] for name in self.axes}

    def _excluded(self, params: Params) -> bool:
        return any(
            all(_among(params[name], values) for name, values in entry.items())
            for entry in self.exclude
        )


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks of an array that need one hardware class; None where the array names none."""

    hardware: str | None
    items: list[Raw] | None = None
    axes: list[Axis] | None = None
    count: int | None = None


def matrix_parts(matrix: Matrix, label: str, filters: Filters, fixed: str) -> list[Part]:
    """The chosen tasks of a matrix by hardware; `fixed` is the class where no axis says it."""
    if filters.expression and matrix.product_size > WRITTEN_OUT_MAX:
        raise InvalidSuite(
            f"task {label!r}: an expression over {matrix.product_size} combinations takes too long",
            remedy=f"Filter by values of an axis first; the limit is {WRITTEN_OUT_MAX}.",
        )
    if not matrix.plain or (filters.expression and not _all_labels_match(matrix, label, filters)):
        return list_parts(list(matrix.combinations()), label, filters, fixed)
    axes = {name: _chosen(name, values, filters) for name, values in matrix.axes.items()}
    if set(filters.axes) - set(axes) or not all(axes.values()):
        return []
    classes = axes.get(HARDWARE_AXIS)
    parts = []
    for hardware in classes or [None]:
        if hardware_matches(hardware or fixed, filters):
            values = {**axes, HARDWARE_AXIS: [hardware]} if hardware else axes
            parts.append(Part(hardware=hardware, axes=_encoded(values)))
    return parts


def list_parts(params: Sequence[Params], label: str, filters: Filters, fixed: str) -> list[Part]:
    """The chosen ones of a list of parameters, in order, by hardware."""
    test = label_test(filters.expression)
    chosen: dict[str | None, list[Params]] = {}
    for index, each in enumerate(params):
        hardware = each.get(HARDWARE_AXIS)
        if not (params_match(each, filters) and hardware_matches(hardware or fixed, filters)):
            continue
        if filters.expression and not test(task_label(label, each, index, len(params))):
            continue
        chosen.setdefault(hardware, []).append(each)
    return [Part(hardware=name, items=json_items(found)) for name, found in chosen.items()]


def count_parts(count: int | None, label: str, filters: Filters, fixed: str) -> list[Part]:
    """The task, or the array of equal tasks, if it is chosen; an expression sees its name only."""
    test = label_test(filters.expression)
    if filters.axes or not hardware_matches(fixed, filters) or not test(label):
        return []
    return [Part(hardware=None, count=count)]


def _all_labels_match(matrix: Matrix, label: str, filters: Filters) -> bool:
    """Whether the expression takes nothing away from what the other filters leave."""
    test, size = label_test(filters.expression), matrix.product_size
    return all(
        test(task_label(label, params, 0, size))
        for params in matrix.combinations()
        if params_match(params, filters)
    )


def _chosen(name: str, values: list[Any], filters: Filters) -> list[Any]:
    patterns = filters.axes.get(name)
    return values if patterns is None else [v for v in values if value_matches(v, patterns)]


def _encoded(axes: Mapping[str, list[Any]]) -> list[Axis]:
    encode = msgspec.json.encode
    return [
        Axis(name=name, values=[Raw(encode(value)) for value in values])
        for name, values in axes.items()
    ]


def _among(value: object, values: list[Any]) -> bool:
    """Membership that tells 1 from true and from 1.0, as JSON does."""
    return any(same_value(value, each) for each in values)


def same_value(one: object, other: object) -> bool:
    """Whether two parameter values are the same JSON."""
    return msgspec.json.encode(one) == msgspec.json.encode(other)


def _key(params: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(dict(params), order="deterministic")
