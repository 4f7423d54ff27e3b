"""A pytest plugin that puts a recording in the place of the pool: `-p replaying_plugin --dtf`.

The file is named by REPLAYING; a line may also be {"end": null}, {"lost": ...} or {"output": ...}.
"""

from __future__ import annotations

import json
import os
import queue
from concurrent.futures import Future
from typing import Any

import msgspec
from dtf.tui.pytest import session
from dtf.tui.pytest.seen import CaseSeen, Detail, Ended, FileLost, FileSeen, OutputSeen


class ReplayedLink:
    """As `Link`, without a pool."""

    run = None

    def __init__(self, wishes: Any, place: Any) -> None:
        self.wishes, self.place = wishes, place
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.work: Future[Any] = Future()
        self.work.add_done_callback(self._replay)
        self.cancelled: list[str] = []

    def start(self) -> None:
        pass

    def cancel(self, reason: str, wait_s: float = 0) -> None:
        print(f"cancelled: {reason}")

    def close(self) -> None:
        pass

    def _replay(self, work: Any) -> None:
        if os.environ.get("SHOW_WORK"):
            print("work:", json.dumps(work.result()._asdict()))
        with open(os.environ["REPLAYING"], "rb") as file:
            for line in file:
                self.inbox.put(seen(json.loads(line)))
        self.inbox.put(Ended(None))


def seen(line: dict[str, Any]) -> Any:
    if "collected" in line:
        told = line["collected"]
        return FileSeen(
            told["file"], told["selected"], told["deselected"], told["digest"],
            tuple(told["ids"]), told.get("worker", "w1"),
        )  # fmt: skip
    if "lost" in line:
        return FileLost(line["lost"]["file"], tuple(line["lost"]["ids"]), line["lost"]["message"])
    if "output" in line:
        return OutputSeen(*line["output"])
    case = line["case"]
    detail = msgspec.convert(case["detail"], Detail) if "detail" in case else None
    return CaseSeen(
        case["id"], case["verdict"], case.get("duration_us", 0), case.get("message", ""),
        case.get("tries", 1), detail, case.get("worker", "w1"), False,
    )  # fmt: skip


session.Link = ReplayedLink  # type: ignore[assignment,misc]
