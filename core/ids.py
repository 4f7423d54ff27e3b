"""Names and identities.

Rule: whatever enters a subject is a token, whatever must be unique is derived or random.

Pure: randomness is used only by `random_id`, which shells call and pass on.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets

from .errors import InvalidName

NAME_LENGTH_MAX = 64
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$(?!\n)"
"""A regular expression in Python and in JSON Schema alike. Python's `$` also matches before a line
feed at the end, hence the look-ahead."""
RUN_ID_LENGTH = 26
_NAME = re.compile(NAME_PATTERN)
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


def is_name(text: str) -> bool:
    """True when `text` may stand as one token of a subject (protocol F14)."""
    return _NAME.match(text) is not None


def check_name(text: str, what: str) -> str:
    """`text` unchanged when it is a subject token; raises `InvalidName` naming `what` if not."""
    if not is_name(text):
        raise InvalidName(what, text)
    return text


def to_name(text: str) -> str:
    """A subject token that resembles `text`.

    Lossy inputs get a digest suffix, so two texts never meet.
    """
    if is_name(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    stem = _UNSAFE.sub("-", text).strip("-_")[: NAME_LENGTH_MAX - 9].strip("-_")
    return f"{stem}-{digest}" if stem else f"n-{digest}"


def run_id(publisher: str, key: str) -> str:
    """The id of the run that `publisher` submits under `key`: one key is one run (protocol S1).

    First 26 characters of the lower-case base32 of SHA-256 over "publisher/key" in UTF-8: 130 bits.
    """
    digest = hashlib.sha256(f"{publisher}/{key}".encode("utf-8", "surrogatepass")).digest()
    return base64.b32encode(digest).decode().lower()[:RUN_ID_LENGTH]


def random_id(characters: int = 8) -> str:
    """A random lower-case base32 id; 5 bits a character.

    26 characters make a message id of 130 bits.
    """
    raw = base64.b32encode(secrets.token_bytes((characters * 5 + 7) // 8)).decode().lower()
    return raw[:characters]


def task_id(group: str, index: int) -> str:
    """The id of task `index` (from 0) of `group`.

    Always "<group>-<index>", so it splits in one way only.
    """
    return f"{group}-{index}"


def split_task_id(task: str) -> tuple[str, int] | None:
    """(group, index) of a task id, or None when the text is not one.

    No sign, no leading zero.
    """
    group, _, digits = task.rpartition("-")
    try:
        index = int(digits)
    except ValueError:
        return None
    return (group, index) if group and str(index) == digits else None


def attempt_token(task: str, attempt: int, term: int, nonce: str) -> str:
    """The identity of one attempt inside its run: "task.attempt.term.nonce".

    Compared whole (protocol A1).
    """
    return f"{task}.{attempt}.{term}.{nonce}"


def split_token(token: str) -> tuple[str, int] | None:
    """(task, attempt) named by an attempt token, or None when the text is not one."""
    parts = token.split(".")
    if len(parts) != 4 or not parts[1].isascii() or not parts[1].isdigit():
        return None
    return parts[0], int(parts[1])
