"""docs/reference/events.md and the JSON Schema, from core/events.py and core/model.py."""

from __future__ import annotations

import json
from enum import Enum
from types import ModuleType
from typing import Any, get_args

import msgspec
from dtf.core import events, model
from dtf.core.codec import event_schema
from dtf.core.ids import NAME_PATTERN
from msgspec import inspect as kinds

from .source import attribute_docs, cell, one_line, paragraphs, table

GROUPS = (
    ("Publishers", "run", "dtf.P.run.<publisher>.<run>"),
    ("Workers", "worker", "dtf.P.worker.<worker>"),
    ("Workers, of an attempt", "attempt", "dtf.P.attempt.<worker>.<run>"),
    ("The leader, to a worker", "assign", "dtf.P.assign.<hardware or _>.<worker>"),
    ("The leader, about a run", "ruling", "dtf.P.ruling.<run>"),
    ("Candidates", "leader", "dtf.P.leader"),
    ("Administrators", "pool", "dtf.P.pool"),
)
TELEMETRY = (
    ("Heartbeat", "dtf.P.beat.<worker>"),
    ("OutputChunk", "dtf.P.output.<run>.<task>.<attempt>"),
)
INTRODUCTION = """# Events

Every fact is one of these JSON objects, told apart by `type`. A message is a JSON array of one or
more events of one writer (a single object counts as an array of one), stored under the subject
named with each group; `P` is the pool. What the subject says (publisher, run, worker) is not
repeated in the event. Fields with a default may be left out; unknown fields are ignored; unknown
types are void. Machine-readable: [schema/events.schema.json](schema/events.schema.json).
"""


def module_of(kind: type) -> ModuleType:
    return events if kind.__module__ == events.__name__ else model


def describe(kind: kinds.Type) -> str:
    """A type in words, with its bounds; structures and closed sets are links."""
    match kind:
        case kinds.StructType(cls=cls) | kinds.EnumType(cls=cls):
            return f"[{cls.__name__}](#{cls.__name__.lower()})"
        case kinds.StrType(pattern=pattern, max_length=most):
            bound = f", at most {most}" if most else ""
            return ("name" if pattern == NAME_PATTERN else "text") + bound
        case kinds.IntType(ge=least, le=most):
            if least is None and most is None:
                return "integer"
            if most == 2**53:
                return f"integer from {least}"
            return f"integer from {least}" + (f" to {most:,}" if most is not None else "")
        case kinds.FloatType():
            return "number"
        case kinds.BoolType():
            return "true or false"
        case kinds.ListType(item_type=item, max_length=most):
            return f"list of {describe(item)}" + (f", at most {most:,}" if most else "")
        case kinds.TupleType(item_types=items):
            return f"[{', '.join(describe(item) for item in items)}]"
        case kinds.DictType(value_type=value):
            return f"object of {describe(value)}"
        case kinds.UnionType(types=types):
            return " or ".join(describe(part) for part in types)
        case kinds.LiteralType(values=values):
            return " or ".join(f"`{value}`" for value in values)
        case kinds.NoneType():
            return "null"
        case kinds.RawType() | kinds.AnyType():
            return "any JSON"
    raise TypeError(f"no words for {kind!r}")


def default_of(field: kinds.Field) -> str:
    if field.required:
        return "required"
    if field.default_factory is not msgspec.NODEFAULT:
        value: Any = field.default_factory()
    elif field.default is model.ABSENT:
        return "absent"
    else:
        value = field.default
    return f"`{msgspec.json.encode(value).decode()}`"


def structure(cls: type, level: int) -> str:
    """The section of one event or value."""
    info = kinds.type_info(cls)
    assert isinstance(info, kinds.StructType)
    docs = attribute_docs(module_of(cls))
    rows = [
        [
            f"`{field.encode_name}`",
            describe(field.type).replace("|", "\\|"),
            default_of(field),
            cell(docs.get((cls.__name__, field.name), "")),
        ]
        for field in info.fields
    ]
    section = f"{'#' * level} {cls.__name__}\n\n{paragraphs(cls.__doc__)}\n"
    return section + (
        "\n" + table(["field", "type", "default", "meaning"], rows) + "\n" if rows else ""
    )


def closed_set(cls: type[Enum]) -> str:
    docs = attribute_docs(model)
    rows = [[f"`{one.value}`", cell(docs.get((cls.__name__, one.name), ""))] for one in cls]
    heading = f"### {cls.__name__}\n\n{paragraphs(cls.__doc__)}\n"
    return f"{heading}\n{table(['value', 'meaning'], rows)}\n"


def values_used() -> list[type]:
    """Structures and closed sets that events are made of, in the order of the schema."""
    names = [name for name in _definitions() if not hasattr(events, name) or hasattr(model, name)]
    return [getattr(model, name) for name in names]


def _definitions() -> dict[str, Any]:
    definitions = event_schema()["$defs"]
    assert isinstance(definitions, dict)
    return definitions


def page() -> str:
    parts = [INTRODUCTION]
    catalogue = get_args(events.AnyEvent)
    for title, kind, subject in GROUPS:
        parts.append(f"## {title}: `{subject}`\n")
        members = events.WRITERS[kind]
        parts += [structure(cls, 3) for cls in catalogue if cls in members]
    parts.append("## Telemetry, kept for a while and decided by nothing\n")
    for name, subject in TELEMETRY:
        parts.append(f"On `{subject}`:\n")
        parts.append(structure(getattr(events, name), 3))
    parts.append("## Values\n")
    for cls in values_used():
        parts.append(closed_set(cls) if issubclass(cls, Enum) else structure(cls, 3))
    return "\n".join(parts)


def schema() -> str:
    """The JSON Schema, with the code's own words on every field."""
    described = event_schema()
    definitions = _definitions()
    for name, definition in definitions.items():
        cls = getattr(model, name, None) or getattr(events, name)
        definition["description"] = one_line(cls.__doc__ or "")
        for field, field_schema in definition.get("properties", {}).items():
            text = attribute_docs(module_of(cls)).get((name, field))
            if text:
                field_schema["description"] = text
    definitions["Message"] = {
        "description": "What one message of the log or of telemetry holds.",
        "anyOf": [
            {"type": "array", "items": {"anyOf": described["anyOf"]}},
            {"anyOf": described["anyOf"]},
        ],
    }
    described["$defs"] = definitions
    return json.dumps(described, indent=2) + "\n"
