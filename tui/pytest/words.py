"""The words of `pytest --dtf`. Rule: read in every pytest run, so nothing is imported here."""

from __future__ import annotations

SPLITS = ("auto", "case", "file", "class", "module", "group", "shard")
ISOLATIONS = ("none", "shard", "file", "case")
