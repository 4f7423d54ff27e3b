"""Reading a suite file.

Rule: what the file says is understood whole or refused, and a complaint names the file, the table,
the key, the value and the remedy.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .array_reading import names_hardware, read_array
from .errors import InvalidSuite
from .model import HARDWARE, Requirement, TaskSpec, spec_problem
from .placeholders import placeholders
from .quantities import duration_ms, size_bytes
from .selection import HARDWARE_AXIS
from .suite_keys import BUNDLE_KEYS, DEFAULT_KEYS, SUITE_KEYS, TASK_KEYS
from .suite_plan import BundlePlan, Suite, TaskPlan
from .tables import Table, did_you_mean, one_of, read_toml, shown


def read_suite(path: Path) -> Suite:
    """The suite in the file, without looking at any other file. Raises `InvalidSuite`."""
    top = Table(read_toml(path, InvalidSuite), str(path), "", InvalidSuite)
    top.only(SUITE_KEYS)
    defaults = top.table("defaults")
    for one in ("name", "command", "python", "pytest"):
        if one in defaults.values:
            raise defaults.complaint(one, "belongs to a task, not to the defaults")
    defaults.only(DEFAULT_KEYS)
    tasks = [
        _read_task(values, number, str(path), defaults)
        for number, values in enumerate(_task_tables(top), start=1)
    ]
    return Suite(
        name=top.text("name") or path.stem,
        path=path,
        tasks=tasks,
        bundle=_read_bundle(top, path.parent),
        priority=top.whole("priority", 0, -100, 100),
        labels=top.text_map("labels"),
        wait_for_capacity=top.flag("wait_for_capacity", False),
    )


def _task_tables(top: Table) -> Iterable[Any]:
    tables = top.values.get("task", [])
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise top.bad("task", "an array of tables", "Begin each task with [[task]].")
    if not tables:
        raise top.complaint("task", "is missing", "Say what to run: a [[task]] table for each.")
    return tables


def _read_bundle(top: Table, base: Path) -> BundlePlan | None:
    if top.values.get("bundle") is False:
        return None
    if not isinstance(top.values.get("bundle", {}), dict):
        raise top.bad("bundle", "a table or false")
    table = top.table("bundle")
    table.only(BUNDLE_KEYS)
    root = (base / Path(table.text("root", ".", length_max=4096)).expanduser()).absolute()
    if not root.is_dir():
        raise table.complaint("root", f"no such directory: {root}", "Relative to the suite file.")
    return BundlePlan(
        root=root.resolve(),
        exclude=table.texts("exclude"),
        limit=table.quantity("limit", None, size_bytes),
    )


class TaskTable(Table):
    """A task's table over the defaults: a complaint names the one the value stands in."""

    def __init__(self, values: dict[str, Any], file: str, place: str, defaults: Table) -> None:
        super().__init__(values, file, place, InvalidSuite)
        self.defaults = defaults

    def where(self, key: str) -> Table:
        """The table that says `key`: the task's own, else the defaults."""
        return self.defaults if key not in self.values and key in self.defaults.values else self


def _read_task(values: dict[str, Any], number: int, file: str, defaults: Table) -> TaskPlan:
    name = values.get("name")
    place = f"task {name!r}" if isinstance(name, str) and name else f"task[{number}]"
    table = TaskTable(values, file, place, defaults)
    table.only(TASK_KEYS)
    label = table.text("name")
    if not label.strip():
        raise table.complaint("name", "is missing", 'Give it one, such as name = "parity".')
    array = read_array(table, _hardware(table))
    spec = _read_spec(table, array.classes)
    _check_placeholders(table, spec, array.names)
    return TaskPlan(
        label=label,
        spec=spec,
        classes=array.classes,
        count=array.count,
        params=array.params,
        matrix=array.matrix,
        pytest=_pytest_words(table),
        check=table.where("check").flag("check", True),
    )


def _hardware(table: TaskTable) -> list[str]:
    """The classes the key `hardware` names; `cpu` when it is left out."""
    where = table.where(HARDWARE_AXIS)
    if names_hardware(table):
        if HARDWARE_AXIS in table.values:
            raise table.complaint(HARDWARE_AXIS, "is said twice: here and by the task's array")
        return ["cpu"]
    value = where.values.get(HARDWARE_AXIS, "cpu")
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) for name in names):
        raise where.bad(HARDWARE_AXIS, "a hardware class or a list of them", one_of(HARDWARE))
    for name in names:
        if name not in HARDWARE:
            near = did_you_mean(name, HARDWARE) + one_of(HARDWARE)
            raise where.complaint(HARDWARE_AXIS, f"unknown hardware {shown(name)}", near)
    if len(set(names)) < len(names):
        raise where.complaint(HARDWARE_AXIS, f"names a class twice: {shown(names)}")
    return names


def _read_spec(table: TaskTable, classes: list[str]) -> TaskSpec:
    command, target, words = _command(table), _target(table), _pytest_words(table)
    said = [
        key
        for key, value in (("command", command), ("python", target), ("pytest", words is not None))
        if value
    ]
    if len(said) != 1:
        problem = f"says both `{said[0]}` and `{said[1]}`" if said else "says nothing to run"
        raise table.complaint("", problem, "Give it one of `command`, `python` and `pytest`.")
    where = table.where
    spec = TaskSpec(
        runner=said[0],  # type: ignore[arg-type]  # the keys are the runners' names
        command=command,
        target=target,
        isolation=_isolation(table, said[0]),
        preload=where("preload").texts("preload"),
        env={**table.defaults.text_map("env"), **table.text_map("env")},
        artifacts=where("artifacts").texts("artifacts"),
        require=_requirement(table, classes),
        wall_ms=_duration(table, "wall", TaskSpec().wall_ms, low=1),
        silence_ms=_duration(table, "silence", None, low=1),
        queue_ms=_duration(table, "queue", None, low=1),
        grace_ms=_duration(table, "grace", TaskSpec().grace_ms, low=0),
        retries=where("retries").whole("retries", 0, 0, 100),
        infra_retries=where("infra_retries").whole("infra_retries", 2, 0, 100),
        allow_fallback=where("allow_fallback").flag("allow_fallback", False),
    )
    nonsense = spec_problem(spec)
    if nonsense is not None:
        raise table.complaint("", nonsense)
    return spec


def _command(table: Table) -> list[str]:
    value: object = table.values.get("command", [])
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as problem:
            raise table.complaint("command", f"{problem}: {shown(value)}") from None
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise table.bad("command", "a text or a list of texts", 'Such as ["python", "run.py"].')
    if "command" in table.values and (not value or not value[0]):
        raise table.complaint("command", "names no program")
    return value


def _target(table: Table) -> str:
    target = table.text("python", length_max=1024)
    if "python" not in table.values:
        return ""
    module, colon, attribute = target.partition(":")
    if colon:
        good = all(part.isidentifier() for part in (*module.split("."), *attribute.split(".")))
    else:
        path = Path(target)
        good = target.endswith(".py") and not path.is_absolute() and ".." not in path.parts
    if not good:
        raise table.bad("python", '"module:callable" or "path/to/script.py" below the bundle root')
    return target


def _pytest_words(table: TaskTable) -> list[str] | None:
    if "pytest" not in table.values:
        return None
    for key in ("count", "params", "matrix"):
        if key in table.values:
            raise table.complaint(key, "does not go with `pytest`, which is one task a file")
    value: object = table.values["pytest"]
    if isinstance(value, str):
        value = shlex.split(value)
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise table.bad("pytest", "a text or a list of texts", 'Such as ["tests", "-k", "fast"].')
    return value


def _isolation(table: TaskTable, runner: str) -> Any:
    where = table.where("isolation")
    known = ["none", "process", "file", "case"] if runner == "pytest" else ["process", "none"]
    value = where.text("isolation", known[0])
    if value not in known:
        raise where.bad("isolation", one_of(known), did_you_mean(value, known))
    return value


def _duration(table: TaskTable, key: str, default: Any, low: int) -> Any:
    where = table.where(key)
    value = where.quantity(key, default, duration_ms)
    if value is not None and value < low:
        raise where.bad(key, "a duration above zero")
    return value


def _requirement(table: TaskTable, classes: list[str]) -> Requirement:
    where = table.where
    devices = where("devices").whole("devices", None, 0, 1024)
    device_memory = where("device_memory").quantity("device_memory", 0, size_bytes)
    if classes == ["cpu"]:
        for key in ("devices", "device_memory"):
            if table.values.get(key):
                raise table.complaint(key, "hardware cpu has no devices", "Say which `hardware`.")
        devices, device_memory = None, 0
    return Requirement(
        hardware=classes[0],
        labels={**table.defaults.text_map("labels"), **table.text_map("labels")},
        cpu_milli=_cpu_milli(where("cpus")),
        memory_bytes=where("memory").quantity("memory", 0, size_bytes),
        devices=devices,
        device_memory_bytes=device_memory,
    )


def _cpu_milli(table: Table) -> int:
    value = table.values.get("cpus", 1)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 10_000:
        raise table.bad("cpus", "a number of cores from 0 to 10000, such as 0.5")
    return math.ceil(value * 1000)


def _check_placeholders(table: TaskTable, spec: TaskSpec, names: frozenset[str]) -> None:
    """Every placeholder of command and environment is a parameter each task of the array has."""
    texts = [("command", text) for text in spec.command]
    for name, text in spec.env.items():
        where = table if name in table.text_map("env") else table.defaults
        if not name or "=" in name or "\0" in name + text:
            raise where.complaint("env", f"no environment variable can be named {name!r}")
        texts.append((f"env.{name}", text))
    for key, text in texts:
        for name in placeholders(text):
            if name not in names:
                raise table.complaint(
                    key,
                    f"{shown(text)} asks for the parameter {name!r}, which the task has not",
                    did_you_mean(name, names)
                    + (f"It has: {', '.join(sorted(names))}. " if names else "It has none. ")
                    + f"For the text itself write {{{{{name}}}}}.",
                )
    if spec.target and placeholders(spec.target):
        raise table.complaint("python", "parameters reach Python by dtf.params(), not in the name")
