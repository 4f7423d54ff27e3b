"""Subject wildcards as NATS reads them. Rule: the twin in memory selects what the server would."""

from __future__ import annotations


def subject_matches(pattern: str, subject: str) -> bool:
    """Whether a NATS subject falls under a pattern with `*` (one token) and `>` (one or more at the
    end).
    """
    wanted, given = pattern.split("."), subject.split(".")
    for index, part in enumerate(wanted):
        if part == ">":
            return len(given) > index
        if index >= len(given) or (part != "*" and part != given[index]):
            return False
    return len(wanted) == len(given)
