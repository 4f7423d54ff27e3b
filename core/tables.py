"""Reading TOML tables people wrote.

Rule: a complaint names the file, the table, the key, the value and the remedy.

Nothing is ignored: a key nobody asked for is an error with the nearest known one.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from .errors import UserError

T = TypeVar("T")
_SHOWN = 80


def did_you_mean(word: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """ "Did you mean 'x'? " when something known resembles `word`, else ""."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=likeness)
    return f"Did you mean {near[0]!r}? " if near else ""


def one_of(known: Iterable[str]) -> str:
    """The known names as a sentence: "Known are: a, b, c."."""
    return f"Known are: {', '.join(known)}."


def read_toml(path: Path, error: type[UserError]) -> dict[str, Any]:
    """The parsed file; raises `error`, with line and column, when it is not readable TOML."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise error(f"{path}: no such file", remedy="Check the path.") from None
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise error(f"{path}: not valid TOML: {problem}", remedy="Mend that line.") from None


class Table:
    """One table of a file, with its place in it, so that every getter can complain precisely."""

    def __init__(
        self, values: Mapping[str, Any], file: str, place: str, error: type[UserError]
    ) -> None:
        self.values = values
        self.file = file
        self.place = place
        self.error = error

    def complaint(self, key: str, problem: str, remedy: str = "") -> UserError:
        """The error to raise about `key` of this table; "" complains about the table itself."""
        place = ".".join(part for part in (self.place, key) if part)
        return self.error(f"{self.file}: {place}: {problem}", remedy=remedy)

    def bad(self, key: str, wanted: str, remedy: str = "") -> UserError:
        """The complaint that the value of `key` is not `wanted`."""
        return self.complaint(key, f"needs {wanted}, got {shown(self.values.get(key))}", remedy)

    def only(self, known: Iterable[str]) -> None:
        """Raises when the table has a key that is not known."""
        names = list(known)
        for key in self.values:
            if key not in names:
                raise self.complaint(
                    key, "is not known here", did_you_mean(key, names) + one_of(names)
                )

    def text(self, key: str, default: str = "", *, length_max: int = 256) -> str:
        """The string at `key`."""
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.bad(key, "text", "Put it in quotes.")
        if len(value) > length_max:
            raise self.bad(key, f"at most {length_max} characters")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """The boolean at `key`."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.bad(key, "true or false")
        return value

    def whole(self, key: str, default: T, low: int, high: int) -> int | T:
        """The whole number at `key`, within [low, high]."""
        if key not in self.values:
            return default
        value = self.values[key]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.bad(key, f"a whole number from {low} to {high}")
        return value

    def quantity(self, key: str, default: T, parse: Callable[[object], int]) -> int | T:
        """The duration or size at `key`, in the unit of `parse`."""
        if key not in self.values:
            return default
        try:
            return parse(self.values[key])
        except ValueError as problem:
            raise self.complaint(key, str(problem)) from None

    def texts(self, key: str) -> list[str]:
        """The list of strings at `key`; empty when absent."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.bad(key, "a list of texts", 'Such as ["one", "two"].')
        return list(value)

    def text_map(self, key: str) -> dict[str, str]:
        """The table of strings at `key`; empty when absent. Numbers and booleans must be quoted."""
        value = self.values.get(key, {})
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise self.bad(key, "a table of texts", 'Such as { name = "text" }.')
        return dict(value)

    def table(self, key: str) -> Table:
        """The sub-table at `key`; empty when absent."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self.bad(key, "a table", f"Write it as [{key}].")
        return Table(value, self.file, ".".join(p for p in (self.place, key) if p), self.error)


def shown(value: object) -> str:
    """A value as it can stand in a message: short, on one line."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
