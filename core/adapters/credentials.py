"""NATS credentials files without the nkeys package.

Rule: secrets are read when needed and never kept or logged.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path

from ..errors import InvalidConfig

_BLOCK = r"-----BEGIN {0}-----\s+([A-Za-z0-9_.=-]+)\s+-+END {0}-+"
JWT_BLOCK = re.compile(_BLOCK.format("NATS USER JWT"))
SEED_BLOCK = re.compile(_BLOCK.format("USER NKEY SEED"))


def _block(path: Path, pattern: re.Pattern[str], what: str) -> str:
    try:
        found = pattern.search(path.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"cannot read the credentials file {path}: {error}") from error
    if found is None:
        raise InvalidConfig(f"{path} holds no {what}", remedy="Pass a NATS .creds file.")
    return found[1]


def jwt_and_signer(path: Path) -> tuple[Callable[[], bytes], Callable[[str], bytes]]:
    """Callbacks for nats-py: the JWT, and the base64 signature of a nonce.

    Each reads the file anew (renewal).
    """

    def jwt() -> bytes:
        return _block(path, JWT_BLOCK, "user JWT").encode()

    def sign(nonce: str) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        seed = _block(path, SEED_BLOCK, "user seed")
        raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
        key = Ed25519PrivateKey.from_private_bytes(raw[2:34])  # 2 prefix bytes, 32 seed, crc16
        return base64.b64encode(key.sign(nonce.encode()))

    jwt()  # a wrong file is told at once
    return jwt, sign
