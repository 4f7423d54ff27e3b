"""Files an attempt leaves behind. Rule: an artifact that cannot be kept is said, and never
changes the verdict.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..core.errors import DtfError, LogUnavailable
from ..core.ports import BlobStore

PATH_MAX = 1024
RETRY_S = 1.0


class Artifact(NamedTuple):
    """A file to keep. `path` is relative to the scratch directory, with forward slashes."""

    path: str
    file: Path
    bytes: int


class Collected(NamedTuple):
    """What the globs found, within the limits, and what was left out and why."""

    artifacts: list[Artifact]
    notes: list[str]


def collect(scratch: Path, globs: Sequence[str], files_max: int, bytes_max: int) -> Collected:
    """The regular files below `scratch` that match, in order of their paths. Links are never
    followed out of it.
    """
    notes: list[str] = []
    found: dict[str, Artifact] = {}
    if scratch.is_symlink():
        return Collected([], ["artifacts: the scratch directory was replaced by a link"])
    root = scratch.resolve()
    for pattern in globs:
        if pattern.startswith("/") or ".." in Path(pattern).parts:
            notes.append(f"artifacts {pattern!r}: only paths below the scratch directory are kept")
            continue
        matches = _matches(root, pattern)
        if not matches:
            notes.append(f"artifacts {pattern!r} matched nothing")
        for file in matches:
            path = file.relative_to(root).as_posix()
            found.setdefault(path, Artifact(path, file, file.stat().st_size))
    kept: list[Artifact] = []
    total = 0
    for artifact in sorted(found.values()):
        if len(artifact.path) > PATH_MAX or not _is_text(artifact.path):
            notes.append(f"artifact {artifact.path[:100]!r} left out: its path cannot be recorded")
        elif len(kept) >= files_max:
            notes.append(
                f"{len(found) - len(kept)} artifacts left out: more than {files_max} files"
            )
            break
        elif total + artifact.bytes > bytes_max:
            notes.append(
                f"artifact {artifact.path} left out: with its {artifact.bytes} bytes they "
                f"exceed the limit of {bytes_max} for all"
            )
        else:
            kept.append(artifact)
            total += artifact.bytes
    return Collected(kept, notes)


def _matches(root: Path, pattern: str) -> list[Path]:
    try:
        files = list(root.glob(pattern))
    except (ValueError, NotImplementedError, OSError):
        return []
    return [
        file
        for file in files
        if file.is_file() and os.path.realpath(file).startswith(f"{root}{os.sep}")
    ]


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:  # a name that is not UTF-8 on disk
        return False
    return True


async def store(
    blobs: BlobStore,
    collected: Collected,
    stored: Callable[[Artifact, str], None],
    stopping: Callable[[], bool],
) -> None:
    """Every artifact is in the blob store and told to `stored` with its digest; failures are
    added to the notes.

    A store that does not answer is asked again until it does, or until `stopping`.
    """
    for artifact in collected.artifacts:
        digest = await put_file(blobs, artifact.file, stopping)
        if isinstance(digest, str) and digest.startswith("sha256:"):
            stored(artifact, digest)
        else:
            collected.notes.append(f"artifact {artifact.path} could not be stored: {digest}")


async def put_file(blobs: BlobStore, file: Path, stopping: Callable[[], bool]) -> str | Exception:
    """The digest of the stored file, or why it could not be stored."""
    while True:
        try:
            return await blobs.put_file(file)
        except LogUnavailable as error:
            if stopping():
                return error
            await asyncio.sleep(RETRY_S)
        except (DtfError, OSError) as error:
            return error
