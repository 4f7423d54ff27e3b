"""What git would ignore.

Rule: the last pattern that matches decides, deeper files before shallower ones; below an ignored
directory nothing comes back.

pathspec translates the patterns; which of its matches concern the entry itself and not its content
is decided here, as git does (held against git itself by a property test).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pathspec import GitIgnoreSpec

ALWAYS = frozenset({".git", ".hg", ".svn", ".dtf", ".venv", "__pycache__"})
"""Names that are left out wherever they are."""
_DIRECTORY = "ps_d"
"""The group by which pathspec marks the slash after a directory."""
_ANY_DIRECTORY = "(?P<ps_d>/)"


class _Pattern(NamedTuple):
    """One line of a file."""

    regex: re.Pattern[str]
    text: str
    ignores: bool

    def matches(self, path: str, is_dir: bool) -> bool:
        """Whether the line is about `path` itself."""
        if self.regex.pattern == _ANY_DIRECTORY:
            return is_dir
        content = self.text.endswith(("/**", "/**/"))  # about what is inside, at any depth
        candidate = f"{path}/" if is_dir and not content else path
        found = self.regex.search(candidate)
        if found is None or content:
            return found is not None and (is_dir or not self.text.endswith("/"))
        end = found.end(_DIRECTORY) if _DIRECTORY in self.regex.groupindex else -1
        return end in (-1, len(candidate))


class _Rules(NamedTuple):
    """The lines of one file. They see paths below `prefix` only, relative to it."""

    prefix: str
    patterns: tuple[_Pattern, ...]

    def verdict(self, path: str, is_dir: bool) -> bool | None:
        """True: ignored, False: taken back, None: nothing said."""
        if not path.startswith(self.prefix):
            return None
        below = path[len(self.prefix) :]
        for pattern in reversed(self.patterns):
            if pattern.matches(below, is_dir):
                return pattern.ignores
        return None


class Ignore(NamedTuple):
    """The rules in force in one directory; paths are relative to `top`, with forward slashes."""

    top: Path
    rules: tuple[_Rules, ...] = ()
    extra: _Rules | None = None
    """Patterns that beat those of all files."""

    def below(self, directory: str) -> Ignore:
        """The rules in force in `directory` (relative, "" for the top): its own .gitignore is
        added.
        """
        lines = _lines(self.top / directory / ".gitignore")
        if not lines:
            return self
        prefix = f"{directory}/" if directory else ""
        return self._replace(rules=(*self.rules, _read(prefix, lines)))

    def ignores(self, path: str, is_dir: bool) -> bool:
        """Whether the entry is left out, given that its directory is not."""
        if path.rpartition("/")[2] in ALWAYS:
            return True
        said = self.extra.verdict(path, is_dir) if self.extra else None
        for rules in () if said is not None else reversed(self.rules):
            said = rules.verdict(path, is_dir)
            if said is not None:
                break
        return bool(said)


def rules_for(root: Path, exclude: Iterable[str] = ()) -> tuple[Ignore, str]:
    """The rules in force in `root`, and its path below their top ("" when it is the top itself).

    The top is the git work tree `root` lies in, else `root`. `exclude`: further patterns, relative
    to `root`.
    """
    top = next((each for each in (root, *root.parents) if (each / ".git").exists()), root)
    inside = root.relative_to(top).as_posix() if root != top else ""
    prefix = f"{inside}/" if inside else ""
    extra = _read(prefix, list(exclude))
    ignore = Ignore(top, extra=extra if extra.patterns else None)
    lines = _lines(top / ".git" / "info" / "exclude")
    if lines:
        ignore = ignore._replace(rules=(_read("", lines),))
    parts = inside.split("/") if inside else []
    for depth in range(len(parts)):
        ignore = ignore.below("/".join(parts[:depth]))
    return ignore, inside


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8", "surrogateescape").splitlines()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return []


def _read(prefix: str, lines: list[str]) -> _Rules:
    patterns = []
    for line in lines:
        for pattern in GitIgnoreSpec.from_lines([line]).patterns:
            if pattern.include is not None and pattern.regex is not None:
                text = line.removeprefix("!").rstrip()
                patterns.append(_Pattern(pattern.regex, text, bool(pattern.include)))
    return _Rules(prefix, tuple(patterns))
