"""A working tree as it would be shipped.

Rule: what git would not commit is not shipped, and nothing leaves the tree.

Files and symbolic links only: empty directories, sockets and devices are left out. Links are kept
as links; one that points outside the tree is refused, since it means nothing on another machine.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from .errors import BundleTooLarge, InvalidSuite
from .gitignore import Ignore, rules_for
from .quantities import show_bytes

GIVE_UP_FILES = 200_000
"""A tree with more files is surely not meant: the walk ends there."""
SHOWN = 5


class Entry(NamedTuple):
    """A file or a link of the tree.

    Two equal entries have equal content, unless the clock was set back.
    """

    path: str
    """Below the root, with forward slashes."""
    bytes: int
    executable: bool
    link: str | None
    """Where a symbolic link points; None for a file."""
    stamp: tuple[int, int, int]
    """Modification, change (nanoseconds) and inode."""


def tree_entries(root: Path, limit_bytes: int, exclude: Iterable[str] = ()) -> list[Entry]:
    """Everything to ship, sorted by path.

    Raises `BundleTooLarge` naming the biggest entries, and `InvalidSuite` for a link that leaves
    the tree and for what cannot be read.
    """
    root = root.resolve()
    ignore, inside = rules_for(root, exclude)
    entries: list[Entry] = []
    total = 0
    for entry in _walk(root, ignore, inside):
        entries.append(entry)
        total += entry.bytes
        if len(entries) >= GIVE_UP_FILES:
            raise _too_large(root, entries, f"more than {GIVE_UP_FILES} files")
    if total > limit_bytes:
        told = f"{show_bytes(total)}, the limit is {show_bytes(limit_bytes)}"
        raise _too_large(root, entries, told)
    return sorted(entries)


def _walk(root: Path, ignore: Ignore, inside: str) -> Iterator[Entry]:
    """Entries of the directory `inside` (relative to the rules' top) and below."""
    pending = [(inside, ignore)]
    while pending:
        directory, outer = pending.pop()
        prefix = f"{directory}/" if directory else ""
        try:
            rules = outer.below(directory)
            with os.scandir(rules.top / directory) as found:
                listed = list(found)
        except OSError as problem:
            raise _unreadable(rules.top / directory, problem) from None
        for each in listed:
            path = prefix + each.name
            is_dir = each.is_dir(follow_symlinks=False)
            if rules.ignores(path, is_dir):
                continue
            if is_dir:
                pending.append((path, rules))
            else:
                entry = _entry(root, each, path[len(inside) :].lstrip("/"))
                if entry is not None:
                    yield entry


def _entry(root: Path, found: os.DirEntry[str], path: str) -> Entry | None:
    try:
        about = found.stat(follow_symlinks=False)
        link = os.readlink(found.path) if stat.S_ISLNK(about.st_mode) else None
    except OSError as problem:
        raise _unreadable(Path(found.path), problem) from None
    if link is not None:
        _demand_inside(root, path, link)
    elif not stat.S_ISREG(about.st_mode):
        return None
    return Entry(
        path=path,
        bytes=about.st_size if link is None else 0,
        executable=link is None and bool(about.st_mode & stat.S_IXUSR),
        link=link,
        stamp=(about.st_mtime_ns, about.st_ctime_ns, about.st_ino),
    )


def leaves_tree(path: str, link: str) -> bool:
    """Whether a link at `path` that says `link` points outside the tree, as far as names tell."""
    target = os.path.normpath(os.path.join(os.path.dirname(path), link))
    return os.path.isabs(link) or target == ".." or target.startswith("../")


def _demand_inside(root: Path, path: str, link: str) -> None:
    """Raises `InvalidSuite` when the link leaves the tree by its names, or by other links on its
    way.
    """
    real = os.path.realpath(os.path.join(root, path))
    if leaves_tree(path, link) or os.path.commonpath([root, real]) != str(root):
        raise InvalidSuite(
            f"{root / path} is a link to {link!r}, outside the tree that is shipped",
            remedy="Copy what it points to, leave it out (.gitignore, `exclude`), or ship a "
            "larger tree (`root`).",
        )


def _unreadable(path: Path, problem: OSError) -> InvalidSuite:
    return InvalidSuite(
        f"{path} cannot be read: {problem.strerror}",
        remedy="Leave it out (.gitignore, or `exclude` in the suite), or mend its permissions.",
    )


def _too_large(root: Path, entries: list[Entry], told: str) -> BundleTooLarge:
    """The complaint with the biggest entries: of each directory at the root the whole, and single
    files.
    """
    sizes: dict[str, int] = {}
    for entry in entries:
        first, slash, _ = entry.path.partition("/")
        sizes[first + slash] = sizes.get(first + slash, 0) + entry.bytes
        if slash:
            sizes[entry.path] = entry.bytes
    biggest = sorted(sizes.items(), key=lambda item: -item[1])[:SHOWN]
    named = ", ".join(f"{name} {show_bytes(size)}" for name, size in biggest)
    return BundleTooLarge(
        f"the working tree {root} has {told}; the biggest: {named}",
        remedy="Leave out what tests do not need (.gitignore, or `exclude` in the suite), or raise "
        "`limit` in its [bundle].",
    )
