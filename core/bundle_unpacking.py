"""Unpacking a bundle. Rule: an archive writes only below the directory it is given, whole or not at
all.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import IO

from .errors import BundleUnsafe
from .ids import random_id
from .tree import leaves_tree

UNPACKED_BYTES_MAX = 64 * 1024**3
COPY_BYTES = 1024 * 1024


def unpack(path: Path, into: Path, *, bytes_max: int = UNPACKED_BYTES_MAX) -> None:
    """The archive's tree is at `into`, whole; or nothing is there that was not there before.

    `into` must not exist, or be empty; when somebody else unpacks there at the same time, one of
    both stays. Raises `BundleUnsafe` for an archive that is damaged or would write elsewhere, and
    OSError.
    """
    into = into.absolute()
    into.parent.mkdir(parents=True, exist_ok=True)
    fresh = into.with_name(f".{into.name}.{random_id()}")
    fresh.mkdir()
    try:
        try:
            with gzip.open(path) as zipped:
                with tarfile.open(fileobj=zipped, mode="r|") as archive:
                    _extract(archive, fresh, bytes_max)
                while zipped.read(COPY_BYTES):  # up to the checksum at its end
                    pass
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as problem:
            raise BundleUnsafe(f"{path} is no whole archive: {problem}") from problem
        _move(fresh, into)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _extract(archive: tarfile.TarFile, into: Path, bytes_max: int) -> None:
    """Files first, links last: while files are written there is no link they could be led by."""
    links: dict[str, str] = {}
    total = 0
    for member in archive:
        name = _safe_name(member.name)
        total += member.size
        if total > bytes_max:
            raise BundleUnsafe(f"the archive holds more than {bytes_max} bytes")
        if member.issym():
            links[name] = member.linkname
        elif member.isreg():
            source = archive.extractfile(member)
            assert source is not None
            _write_file(into / name, source, 0o755 if member.mode & 0o100 else 0o644)
        elif not member.isdir():
            raise BundleUnsafe(f"{member.name!r} is neither a file nor a link")
    for name, target in links.items():
        _make_link(into, name, target, links)
    root = os.path.realpath(into)
    for name in links:
        real = os.path.realpath(into / name)
        if os.path.commonpath([root, real]) != root:
            raise BundleUnsafe(f"the link {name!r} leaves the tree")


def _safe_name(name: str) -> str:
    parts = name.split("/")
    if not name or name.startswith("/") or "\\" in name or "\0" in name:
        raise BundleUnsafe(f"{name!r} is no path inside the tree")
    if any(part in ("", ".", "..") for part in parts[:-1]) or parts[-1] in (".", ".."):
        raise BundleUnsafe(f"{name!r} is no path inside the tree")
    return name


def _write_file(path: Path, source: IO[bytes], mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise BundleUnsafe(f"{path.name!r} is in the archive twice") from None
    with open(file, "wb") as target:
        shutil.copyfileobj(source, target, COPY_BYTES)
    path.chmod(mode)  # whatever the umask


def _make_link(into: Path, name: str, target: str, links: dict[str, str]) -> None:
    parents = Path(name).parents
    if leaves_tree(name, target) or any(parent.as_posix() in links for parent in parents):
        raise BundleUnsafe(f"the link {name!r} to {target!r} leaves the tree")
    path = into / name
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.symlink_to(target)
    except FileExistsError:
        raise BundleUnsafe(f"{name!r} is in the archive twice") from None


def _move(fresh: Path, into: Path) -> None:
    try:
        fresh.rename(into)
    except OSError:
        with contextlib.suppress(OSError):
            into.rmdir()  # where a directory cannot be renamed onto an empty one
        try:
            fresh.rename(into)
        except OSError:
            if not into.is_dir():
                raise
            # Somebody else was faster; a bundle is the same whoever unpacks it.
