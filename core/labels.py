"""What people call a task: "parity[model=a,batch=4]".

Rule: every screen and report takes the name from here.

Pure. Labels are for reading; identity is the task id.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from .events import TasksSubmitted
from .model import array_length, task_params
from .placeholders import shown_value

VALUE_LENGTH_MAX = 40
_params = msgspec.json.Decoder(dict[str, object])


def decode_params(params: Raw) -> dict[str, object]:
    """The parameters of a task as plain values; empty when it has none, or no JSON object."""
    try:
        return _params.decode(params)
    except msgspec.DecodeError:
        return {}


def task_label(label: str, params: dict[str, object], index: int, size: int) -> str:
    """The name of task `index` of a group of `size` for people: with its parameters, else its
    number.
    """
    if params:
        inside = ",".join(f"{name}={_short(value)}" for name, value in params.items())
        return f"{label}[{inside}]"
    return f"{label}[{index}]" if size > 1 else label


def group_task_label(group: TasksSubmitted, index: int) -> str:
    """The name of task `index` of a submitted group."""
    params = decode_params(task_params(group.items, group.axes, index))
    size = array_length(group.items, group.axes, group.count)
    return task_label(group.label or group.group, params, index, size)


def _short(value: object) -> str:
    text = shown_value(value)
    return text if len(text) <= VALUE_LENGTH_MAX else f"{text[: VALUE_LENGTH_MAX - 3]}..."
