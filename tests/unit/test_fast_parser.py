"""The short way through the parser delivers what nats-py's own parser delivers, however the bytes
arrive.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from dtf.core.adapters.fast_parser import FastParser
from nats.protocol.parser import Parser

Seen = list[tuple[Any, ...]]


class Recorder:
    """Stands for the client: keeps what it is told. Odd subscriptions have a handler of ours."""

    def __init__(self) -> None:
        self.seen: Seen = []

    def deliver(self, *message: Any) -> bool:
        if message[0] % 2 == 0:
            return False
        self.seen.append(message)
        return True

    async def _process_msg(self, *message: Any) -> None:
        self.seen.append(message)

    async def _process_ping(self) -> None:
        self.seen.append(("ping",))

    async def _process_pong(self) -> None:
        self.seen.append(("pong",))

    async def _process_err(self, text: str) -> None:
        self.seen.append(("err", text))

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.seen.append(("info", info))


def traffic(chance: random.Random) -> bytes:
    """Some commands of a server, in any order."""
    parts: list[bytes] = []
    for _ in range(chance.randint(1, 30)):
        body = chance.randbytes(chance.choice([0, 1, 50, 50, 50, 70_000]))
        sid, reply = chance.randint(1, 4), chance.choice([b"", b"_INBOX.x.1 "])
        headers = b"NATS/1.0\r\nNats-Msg-Id: x\r\n\r\n"
        parts.append(
            chance.choice(
                [
                    b"MSG a.b %d %b%d\r\n%b\r\n" % (sid, reply, len(body), body),
                    b"HMSG a.b %d %b%d %d\r\n%b%b\r\n"
                    % (sid, reply, len(headers), len(headers) + len(body), headers, body),
                    b"PING\r\n",
                    b"PONG\r\n",
                    b"+OK\r\n",
                    b"-ERR 'Something Bad'\r\n",
                    b'INFO {"max_payload":1}\r\n',
                ]
            )
        )
    return b"".join(parts)


async def parsed(parser: Any, recorder: Recorder, pieces: list[bytes]) -> Seen:
    for piece in pieces:
        await parser.parse(piece)
    return recorder.seen


def cut(data: bytes, chance: random.Random) -> list[bytes]:
    """The bytes in pieces of any length, as a socket gives them."""
    pieces = []
    while data:
        size = chance.choice([1, 3, 17, 100, 4096, 100_000])
        pieces.append(data[:size])
        data = data[size:]
    return pieces


@pytest.mark.parametrize("seed", range(60))
async def test_it_delivers_what_the_slow_parser_delivers(seed: int) -> None:
    chance = random.Random(seed)
    data = traffic(chance)
    slow, fast = Recorder(), Recorder()
    expected = await parsed(Parser(slow), slow, [data])
    assert await parsed(FastParser(fast), fast, cut(data, chance)) == expected


async def test_a_reset_forgets_a_half_message() -> None:
    recorder = Recorder()
    parser = FastParser(recorder)
    await parser.parse(b"MSG a 1 100\r\nhalf")
    parser.reset()
    await parser.parse(b"MSG a 1 1\r\nx\r\n")
    assert [message[3] for message in recorder.seen] == [b"x"]


async def test_garbage_raises_so_that_the_client_reconnects() -> None:
    parser = FastParser(Recorder())
    with pytest.raises(ValueError, match="invalid literal"):
        await parser.parse(b"MSG a b c\r\n")
