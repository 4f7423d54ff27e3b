"""Bundles: a working tree as one archive, known by the digest of its content.

Rule: the same files make the same bytes, whatever their times and owners; an archive writes only
below the directory it is given, whole or not at all.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import tarfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import msgspec
import platformdirs

from .bundle_unpacking import unpack
from .errors import InvalidSuite
from .ids import random_id
from .settings import BUNDLE_BYTES_MAX
from .tree import Entry, tree_entries

__all__ = ["PackedBundle", "pack", "unpack"]
FORMAT = 1
TIME_S = 315_532_800
"""Modification time of every packed file: 1980, the earliest a zip knows."""
SETTLED_NS = 2_000_000_000
"""A file changed less than this before it was read may change again within the same tick of a
clock.
"""
KEPT = 16
"""Archives kept beside the newest."""


class PackedBundle(msgspec.Struct, frozen=True, kw_only=True):
    """An archive on this machine.

    `files` are the paths in it; `bytes` what they hold together, unpacked.
    """

    digest: str
    """sha256:<hex> of the archive; the name it has in the blob store."""
    path: Path
    files: list[str]
    bytes: int


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the last packing of a tree saw and made."""

    signature: str
    digest: str
    files: list[str]
    bytes: int


def pack(
    root: Path,
    limit_bytes: int = BUNDLE_BYTES_MAX,
    *,
    exclude: Sequence[str] = (),
    cache_dir: Path | None = None,
) -> PackedBundle:
    """The working tree below `root` as an archive in `cache_dir` (the user's cache directory unless
    given).

    What git ignores is left out, and `.git`, `.venv`, `.dtf`, `__pycache__`, and what `exclude` (as
    in .gitignore) names. When no file changed since the last call, nothing is read but the
    directories. Raises `BundleTooLarge`, and `InvalidSuite` for links that leave the tree and files
    that cannot be read. Blocks: for event loops, in a thread.
    """
    root = root.resolve()
    if not root.is_dir():
        raise InvalidSuite(f"there is no directory {root} to ship", remedy="Check `root`.")
    cache = platformdirs.user_cache_path("dtf") / "bundles" if cache_dir is None else cache_dir
    began_ns = time.time_ns()
    entries = tree_entries(root, limit_bytes, exclude)
    signature = _signature(entries)
    note = cache / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:32]}.json"
    known = _known(note, signature)
    if known is not None and (path := _archive_path(cache, known.digest)).is_file():
        os.utime(path)
        return PackedBundle(digest=known.digest, path=path, files=known.files, bytes=known.bytes)
    cache.mkdir(parents=True, exist_ok=True)
    packed = _write(root, entries, cache)
    newest = max((max(entry.stamp[:2]) for entry in entries), default=0)
    if newest < began_ns - SETTLED_NS:
        _remember(note, signature, packed)
    _forget_old(cache)
    return packed


def _signature(entries: Iterable[Entry]) -> str:
    return hashlib.sha256(msgspec.json.encode([FORMAT, *map(_encodable, entries)])).hexdigest()


def _encodable(entry: Entry) -> list[object]:
    name = os.fsencode(entry.path).hex()
    link = None if entry.link is None else os.fsencode(entry.link).hex()
    return [name, entry.bytes, entry.executable, link, *entry.stamp]


def _known(note: Path, signature: str) -> _Known | None:
    try:
        known = msgspec.json.decode(note.read_bytes(), type=_Known)
    except (OSError, msgspec.DecodeError):
        return None
    return known if known.signature == signature else None


def _remember(note: Path, signature: str, packed: PackedBundle) -> None:
    try:
        data = msgspec.json.encode(
            _Known(
                signature=signature, digest=packed.digest, files=packed.files, bytes=packed.bytes
            )
        )
    except UnicodeEncodeError:  # a file name that is no text: packed anew each time
        return
    fresh = note.with_name(f".{note.name}.{random_id()}")
    fresh.write_bytes(data)
    fresh.replace(note)


def _archive_path(cache: Path, digest: str) -> Path:
    return cache / f"{digest.partition(':')[2]}.tar.gz"


class _Hashing:
    """A file that hashes what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.hash = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _write(root: Path, entries: list[Entry], cache: Path) -> PackedBundle:
    """The archive, complete under the name of its digest."""
    fresh = cache / f".{random_id()}.tar.gz"
    try:
        with fresh.open("xb") as file:
            hashing = _Hashing(file)
            with (
                gzip.GzipFile("", "wb", 1, hashing, mtime=0) as zipped,
                tarfile.open(fileobj=zipped, mode="w|", format=tarfile.GNU_FORMAT) as archive,
            ):
                for entry in entries:
                    _add(archive, root, entry)
        digest = f"sha256:{hashing.hash.hexdigest()}"
        path = fresh.replace(_archive_path(cache, digest))
    finally:
        fresh.unlink(missing_ok=True)
    files, total = [entry.path for entry in entries], sum(entry.bytes for entry in entries)
    return PackedBundle(digest=digest, path=path, files=files, bytes=total)


def _add(archive: tarfile.TarFile, root: Path, entry: Entry) -> None:
    about = tarfile.TarInfo(entry.path)
    about.mtime = TIME_S
    about.mode = 0o755 if entry.executable else 0o644
    if entry.link is not None:
        about.type, about.linkname, about.mode = tarfile.SYMTYPE, entry.link, 0o777
        archive.addfile(about)
        return
    try:
        with (root / entry.path).open("rb") as file:
            about.size = entry.bytes
            archive.addfile(about, file)
            changed = bool(file.read(1))
    except OSError as problem:
        if problem.errno is not None:
            raise InvalidSuite(
                f"{root / entry.path} cannot be read: {problem.strerror}",
                remedy="Leave it out (.gitignore, or `exclude` in the suite).",
            ) from None
        changed = True  # tarfile found less than the file's size said
    if changed:
        raise InvalidSuite(
            f"{root / entry.path} changed while it was packed",
            remedy="Try again, or leave out what is written meanwhile (.gitignore, `exclude`).",
        )


def _forget_old(cache: Path) -> None:
    """At most `KEPT` archives and notes besides what was used last."""
    for pattern in ("*.tar.gz", "*.json"):
        found: list[tuple[float, Path]] = []
        for path in cache.glob(pattern):
            with contextlib.suppress(FileNotFoundError):
                found.append((path.stat().st_mtime, path))
        for _, path in sorted(found, reverse=True)[KEPT + 1 :]:
            path.unlink(missing_ok=True)
