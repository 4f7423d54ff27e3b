"""A credentials file (JWT and seed) opens a server with operator, account and user keys."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from dtf.core.adapters.nats_client import NatsOptions, connect
from dtf.core.errors import InvalidConfig
from dtf.core.server import EmbeddedServer

OPERATOR, ACCOUNT, USER, SEED = 14 << 3, 0, 20 << 3, 18 << 3


def checksum(data: bytes) -> bytes:
    """CRC-16 (XMODEM), little-endian, as NATS keys end with."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc.to_bytes(2, "little")


def text_of(raw: bytes) -> str:
    return base64.b32encode(raw + checksum(raw)).decode().rstrip("=")


class Key:
    """An Ed25519 key with its NATS names."""

    def __init__(self, kind: int) -> None:
        self.private = Ed25519PrivateKey.generate()
        raw = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public = text_of(bytes([kind]) + raw)
        secret = self.private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        self.seed = text_of(bytes([SEED | kind >> 5, (kind & 31) << 3]) + secret)


def jwt(issuer: Key, subject: Key, name: str, nats: dict[str, Any]) -> str:
    claims: dict[str, Any] = {"iat": int(time.time()), "iss": issuer.public, "name": name}
    claims |= {"sub": subject.public, "nats": nats | {"version": 2}}
    digest = hashlib.new("sha512_256", json.dumps(claims).encode()).digest()
    claims["jti"] = base64.b32encode(digest).decode().rstrip("=")

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    head = part(b'{"typ":"JWT","alg":"ed25519-nkey"}') + "." + part(json.dumps(claims).encode())
    return f"{head}.{part(issuer.private.sign(head.encode()))}"


async def test_a_credentials_file_opens_the_server(tmp_path: Path) -> None:
    operator, account, user = Key(OPERATOR), Key(ACCOUNT), Key(USER)
    limits = dict.fromkeys(("subs", "conn", "leaf", "imports", "exports", "data", "payload"), -1)
    account_jwt = jwt(operator, account, "A", {"type": "account", "limits": limits})
    user_jwt = jwt(account, user, "u", {"type": "user", "subs": -1, "data": -1, "payload": -1})
    operator_jwt = jwt(operator, operator, "O", {"type": "operator"})

    class Decentralised(EmbeddedServer):
        def _config(self) -> str:
            return (
                f'listen: "127.0.0.1:-1"\nports_file_dir: "{self.data_dir}"\n'
                f"operator: {operator_jwt}\nresolver: MEMORY\n"
                f"resolver_preload: {{ {account.public}: {account_jwt} }}\n"
            )

    creds = tmp_path / "u.creds"
    creds.write_text(
        f"-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    async with Decentralised(tmp_path / "server") as server:
        connection = await connect(NatsOptions(url=server.url, creds=creds))
        await connection.nc.flush()
        await connection.aclose()
        with pytest.raises(InvalidConfig, match="refused the credentials"):
            await connect(NatsOptions(url=server.url))


async def test_a_file_that_holds_no_credentials_is_named(tmp_path: Path) -> None:
    path = tmp_path / "empty.creds"
    with pytest.raises(InvalidConfig, match=r"empty\.creds"):
        await connect(NatsOptions(creds=path))
    path.write_text("nothing")
    with pytest.raises(InvalidConfig, match=r"empty\.creds holds no user JWT"):
        await connect(NatsOptions(creds=path))
