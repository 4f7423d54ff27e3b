"""Live output on its way to whoever watches. Rule: it never waits; what the broker is too slow
for is not shown.

The whole output is stored apart from this (`processes.py`, `isolated.py`).
"""

from __future__ import annotations

import codecs

from ..core.codec import encode_batch
from ..core.events import OutputChunk
from ..core.ids import random_id
from ..core.ports import Appended, EventLog

INFLIGHT_MAX = 256
"""Chunks without an answer, above which more are dropped."""
DECODER = codecs.getincrementaldecoder("utf-8")


class LiveOutput:
    """The output stream of a pool, for all attempts of an agent."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._inflight = 0

    def send(self, subject: str, chunk: OutputChunk) -> bool:
        """Whether the chunk was sent."""
        if self._inflight >= INFLIGHT_MAX:
            return False
        self._inflight += 1
        self._log.append_soon(subject, encode_batch([chunk]), random_id(26), self._answered)
        return True

    def _answered(self, result: Appended | Exception) -> None:
        self._inflight -= 1


class LiveText:
    """The live output of one attempt, as numbered chunks of whole characters."""

    def __init__(self, output: LiveOutput, subject: str) -> None:
        self._output = output
        self._subject = subject
        self._decoder = DECODER("replace")
        self._chunks = 0

    def add(self, data: bytes, dropped: int) -> None:
        """More output; `dropped` bytes before it are not here."""
        text = self._decoder.decode(data)
        if dropped:
            text += f"\n[dtf: {dropped} bytes are not shown here; the stored output has them]\n"
        self._send(text, last=False)

    def end(self) -> None:
        """The output is over; said only where there was any."""
        if self._chunks:
            self._send(self._decoder.decode(b"", True), last=True)

    def _send(self, text: str, *, last: bool) -> None:
        if self._output.send(self._subject, OutputChunk(n=self._chunks, text=text, last=last)):
            self._chunks += 1
