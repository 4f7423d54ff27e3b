"""Reading the array of a task: `count`, `params`, or `matrix` with `include` and `exclude`.

Rule: what would select nothing, or the same task twice, is a mistake and is told.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from .ids import is_name
from .matrix import WRITTEN_OUT_MAX, Matrix, same_value
from .model import GROUP_TASKS_MAX, HARDWARE
from .selection import HARDWARE_AXIS
from .tables import Table, did_you_mean, one_of, shown

AXES_MAX = 16


class Array(msgspec.Struct, frozen=True, kw_only=True):
    """How a task is repeated. At most one of `count`, `params`, `matrix`."""

    count: int | None = None
    params: list[dict[str, Any]] | None = None
    matrix: Matrix | None = None
    names: frozenset[str] = frozenset()
    """Parameters that every task has."""
    classes: list[str] = []
    """Hardware classes its tasks need, in order."""


def names_hardware(table: Table) -> bool:
    """Whether the array itself says what hardware its tasks need."""
    matrix, params = table.values.get("matrix"), table.values.get("params")
    tables = params if isinstance(params, list) else [matrix]
    return any(isinstance(each, dict) and HARDWARE_AXIS in each for each in tables)


def read_array(table: Table, classes: list[str]) -> Array:
    """The array of a task's table, over the hardware classes given where it names none itself.

    A task without an array is a plain task, or one for each class.
    """
    given = [key for key in ("count", "params", "matrix") if key in table.values]
    if len(given) > 1:
        raise table.complaint(given[1], f"cannot go with `{given[0]}`", "Give it one of the two.")
    for key in ("include", "exclude"):
        if key in table.values and "matrix" not in table.values:
            raise table.complaint(key, "belongs to a `matrix`, and the task has none")
    if "count" in table.values:
        return Array(count=table.whole("count", None, 1, GROUP_TASKS_MAX), classes=classes)
    if "params" in table.values:
        return _read_params(table, classes)
    if "matrix" in table.values or len(classes) > 1:
        return _read_matrix(table, classes)
    return Array(classes=classes)


def _read_params(table: Table, classes: list[str]) -> Array:
    entries = _tables(table, "params")
    if not entries:
        raise table.complaint("params", "is empty", "Give it a table for each task.")
    if len(entries) > WRITTEN_OUT_MAX:
        raise table.complaint("params", f"has more than {WRITTEN_OUT_MAX} entries")
    for number, entry in enumerate(entries):
        _check_values(table, f"params[{number}]", entry)
    with_hardware = sum(HARDWARE_AXIS in entry for entry in entries)
    if with_hardware not in (0, len(entries)):
        raise table.complaint("params", "some entries name `hardware`, some do not")
    if with_hardware:
        classes = list(dict.fromkeys(entry[HARDWARE_AXIS] for entry in entries))
    elif len(classes) > 1:
        entries = [{**entry, HARDWARE_AXIS: name} for entry in entries for name in classes]
    names = frozenset.intersection(*(frozenset(entry) for entry in entries))
    return Array(params=entries, names=names, classes=classes)


def _read_matrix(table: Table, classes: list[str]) -> Array:
    matrix = table.table("matrix")
    added, taken = _beside(table, matrix, "include"), _beside(table, matrix, "exclude")
    matrix.values = {k: v for k, v in matrix.values.items() if k not in ("include", "exclude")}
    if HARDWARE_AXIS not in matrix.values and len(classes) > 1:
        matrix.values = {HARDWARE_AXIS: classes, **matrix.values}
    if not 1 <= len(matrix.values) <= AXES_MAX:
        raise table.bad("matrix", f"1 to {AXES_MAX} axes", "Such as { batch = [1, 4] }.")
    for name, values in matrix.values.items():
        _check_axis(matrix, name, values)
    axes: dict[str, list[Any]] = dict(matrix.values)
    read = Matrix(axes=axes, include=_included(added, axes), exclude=_excluded(taken, axes))
    limit = GROUP_TASKS_MAX if read.plain else WRITTEN_OUT_MAX
    if read.product_size > limit:
        raise table.complaint(
            "matrix",
            f"has {read.product_size} combinations, the limit is {limit}",
            "" if read.plain else "Without include and exclude it may have more.",
        )
    if not read.plain and next(read.combinations(), None) is None:
        raise taken.complaint("exclude", "leaves no combination of the matrix")
    if HARDWARE_AXIS in axes:
        named = [*axes[HARDWARE_AXIS], *(entry[HARDWARE_AXIS] for entry in read.include)]
        classes = list(dict.fromkeys(named))
    return Array(matrix=read, names=frozenset(axes), classes=classes)


def _beside(table: Table, matrix: Table, key: str) -> Table:
    """The table that says `include` or `exclude`: the matrix's own, or the task's."""
    if key not in matrix.values:
        return table
    if key in table.values:
        raise table.complaint(key, "is said twice: here and in the matrix")
    return Table(dict(matrix.values), matrix.file, matrix.place, matrix.error)


def _check_axis(matrix: Table, name: str, values: object) -> None:
    if not isinstance(values, list):
        raise matrix.bad(name, "a list of values", f"Such as {name} = [1, 2].")
    if not values:
        raise matrix.complaint(name, "is empty: the matrix would have no task")
    for value in values:
        _check_value(matrix, name, name, value)
    encoded = [msgspec.json.encode(value) for value in values]
    if len(set(encoded)) < len(encoded):
        twice = next(v for v, e in zip(values, encoded, strict=True) if encoded.count(e) > 1)
        raise matrix.complaint(name, f"has {shown(twice)} twice", "Name each value once.")


def _included(table: Table, axes: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    entries = _tables(table, "include")
    for number, entry in enumerate(entries):
        key = f"include[{number}]"
        _check_names(table, key, entry, axes)
        missing = [name for name in axes if name not in entry]
        if missing:
            raise table.complaint(
                key, f"does not say {', '.join(map(repr, missing))}", "Name every axis."
            )
        _check_values(table, key, entry)
    return entries


def _excluded(table: Table, axes: Mapping[str, list[Any]]) -> list[dict[str, list[Any]]]:
    excluded = []
    for number, entry in enumerate(_tables(table, "exclude")):
        key = f"exclude[{number}]"
        _check_names(table, key, entry, axes)
        if not entry:
            raise table.complaint(key, "names no axis: it would exclude everything")
        lists = {name: v if isinstance(v, list) else [v] for name, v in entry.items()}
        for name, values in lists.items():
            for value in values:
                if not any(same_value(value, known) for known in axes[name]):
                    raise table.complaint(
                        f"{key}.{name}",
                        f"{shown(value)} is no value of the axis {name!r}",
                        did_you_mean(str(value), map(str, axes[name]))
                        + one_of(map(shown, axes[name][:20])),
                    )
        excluded.append(lists)
    return excluded


def _check_names(table: Table, key: str, entry: Iterable[str], axes: Iterable[str]) -> None:
    known = list(axes)
    for name in entry:
        if name not in known:
            raise table.complaint(
                f"{key}.{name}",
                "is no axis of the matrix",
                did_you_mean(name, known) + one_of(known),
            )


def _tables(table: Table, key: str) -> list[dict[str, Any]]:
    value = table.values.get(key, [])
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise table.bad(key, "a list of tables", 'Such as [{ model = "a" }, { model = "b" }].')
    return list(value)


def _check_values(table: Table, key: str, entry: Mapping[str, Any]) -> None:
    for name, value in entry.items():
        _check_value(table, f"{key}.{name}" if key else name, name, value)


def _check_value(table: Table, key: str, name: str, value: Any) -> None:
    """A parameter has a usable name and a value that JSON can say."""
    if not is_name(name) or not name[0].isalpha():
        raise table.complaint(
            key,
            f"{name!r} is no name for a parameter",
            "Use letters, digits, _ and -, and begin with a letter.",
        )
    if not _is_json(value):
        raise table.complaint(key, f"{shown(value)} is no JSON value", "Put it in quotes.")
    if name == HARDWARE_AXIS and value not in HARDWARE:
        near = did_you_mean(value, HARDWARE) if isinstance(value, str) else ""
        raise table.complaint(key, f"unknown hardware {shown(value)}", near + one_of(HARDWARE))


def _is_json(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, dict):
        return all(map(_is_json, value.values()))
    if isinstance(value, int) and not isinstance(value, bool):
        return -(2**63) <= value < 2**63
    return not isinstance(value, datetime.date | datetime.time)
