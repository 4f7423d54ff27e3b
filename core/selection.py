"""Choosing tasks of a plan.

Rule: a filter only takes away, and a task without the parameter asked for is not chosen.

Pure. Values are compared as text, with `*`, `?` and `[...]` as in file names. An expression
combines pieces of task labels with `and`, `or`, `not` and parentheses: "parity and not (cuda or
batch=16)"; case does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from .errors import InvalidSuite
from .placeholders import shown_value

HARDWARE_AXIS = "hardware"
"""The parameter that also says what a task needs."""
_TOKEN = re.compile(r"\s*(\(|\)|\"[^\"]*\"|'[^']*'|[^\s()]+)")
Test = Callable[[str], bool]


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """What to choose; empty chooses all. Every filter given must agree."""

    axes: Mapping[str, Sequence[str]] = {}
    """Parameter -> patterns, one of which its value must match."""
    hardware: Sequence[str] = ()
    """Patterns, one of which the hardware class must match."""
    expression: str = ""
    """Of pieces of task labels."""

    @property
    def empty(self) -> bool:
        return not (self.axes or self.hardware or self.expression.strip())


def value_matches(value: object, patterns: Sequence[str]) -> bool:
    """Whether a parameter's value, as text, matches one of the patterns."""
    text = shown_value(value)
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def params_match(params: Mapping[str, object], filters: Filters) -> bool:
    """Whether parameters pass the filters on axes."""
    return all(
        name in params and value_matches(params[name], patterns)
        for name, patterns in filters.axes.items()
    )


def hardware_matches(hardware: str, filters: Filters) -> bool:
    """Whether a hardware class passes the filter on hardware."""
    return not filters.hardware or value_matches(hardware, filters.hardware)


def label_test(expression: str) -> Test:
    """A test of labels for the expression; an empty one takes all.

    Raises `InvalidSuite` where it makes no sense.
    """
    tokens = _TOKEN.findall(expression)
    if not tokens:
        return lambda label: True
    parser = _Parser(expression, tokens)
    test = parser.either()
    if parser.tokens:
        raise parser.complaint(f"{parser.tokens[0]!r} was not expected")
    return lambda label: test(label.lower())


class _Parser:
    """Recursive descent over `a or b and not (c)`."""

    def __init__(self, expression: str, tokens: Sequence[str]) -> None:
        self.expression = expression
        self.tokens = list(tokens)

    def complaint(self, problem: str) -> InvalidSuite:
        return InvalidSuite(
            f"expression {self.expression!r}: {problem}",
            remedy="Combine pieces of task names with and, or, not and parentheses.",
        )

    def either(self) -> Test:
        tests = [self.both()]
        while self._take("or"):
            tests.append(self.both())
        return lambda label: any(test(label) for test in tests)

    def both(self) -> Test:
        tests = [self.one()]
        while self._take("and"):
            tests.append(self.one())
        return lambda label: all(test(label) for test in tests)

    def one(self) -> Test:
        if self._take("not"):
            test = self.one()
            return lambda label: not test(label)
        if self._take("("):
            inner = self.either()
            if not self._take(")"):
                raise self.complaint("a parenthesis is not closed")
            return inner
        if not self.tokens or self.tokens[0] in (")", "and", "or"):
            raise self.complaint("a piece of a name is missing")
        piece = self.tokens.pop(0).strip("\"'").lower()
        return lambda label: piece in label

    def _take(self, token: str) -> bool:
        if self.tokens and self.tokens[0] == token:
            del self.tokens[0]
            return True
        return False
