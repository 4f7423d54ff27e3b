"""How to reach and enter a NATS server.

Rule: secrets are read when a connection is made, and never logged.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import InvalidConfig
from ..ids import random_id

if TYPE_CHECKING:
    import ssl


class NatsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach and enter a server. `url` may list several, separated by commas."""

    url: str = "nats://127.0.0.1:4222"
    user: str | None = None
    password: str | None = None
    token: str | None = None
    creds: Path | None = None
    """A credentials file (JWT and seed); read again at each reconnect."""
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    js_prefix: str = "$JS.API"
    inbox_prefix: str = msgspec.field(default_factory=lambda: f"_INBOX_{random_id(12)}")
    name: str = "dtf"


def client_settings(options: NatsOptions) -> dict[str, Any]:
    """Keyword arguments for nats-py: reconnect for ever, and notice a dead peer in 10 to 15 s."""
    return {
        "servers": [url.strip() for url in options.url.split(",")],
        "name": options.name,
        "connect_timeout": 2,
        "reconnect_time_wait": 0.1,
        "max_reconnect_attempts": -1,
        "ping_interval": 5,
        "max_outstanding_pings": 2,
        "pending_size": 8 * 1024 * 1024,
        "inbox_prefix": options.inbox_prefix,
        **_authentication(options),
    }


def _authentication(options: NatsOptions) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if options.user is not None:
        found["user"], found["password"] = options.user, options.password or ""
    elif options.token is not None:
        found["token"] = options.token
    if options.creds is not None:
        from .credentials import jwt_and_signer

        found["user_jwt_cb"], found["signature_cb"] = jwt_and_signer(options.creds)
    if options.tls_ca is not None or options.tls_cert is not None:
        found["tls"] = _tls_context(options)
    return found


def _tls_context(options: NatsOptions) -> ssl.SSLContext:
    import ssl

    try:
        context = ssl.create_default_context(cafile=options.tls_ca)
        if options.tls_cert is not None:
            context.load_cert_chain(options.tls_cert, options.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidConfig(f"cannot load the TLS files: {error}") from error
    return context
