"""Records the golden logs of a version. Rule: a recorded log is never recorded again.

    python tests/golden/record.py v1

writes the logs that are missing below `tests/golden/v1`: `NAME.jsonl`, a message a line, and
`NAME.expected.json`, what it folds to. Once a version of dtf is out, its logs stay as they are and
must fold to the same judgements for ever; new kinds of events get a new file.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from dtf.core.ports import Message  # noqa: E402
from dtf.core.state import digest  # noqa: E402
from histories import History  # noqa: E402
from stories import day_in_a_pool  # noqa: E402
from worlds import World  # noqa: E402

LOGS = {
    "day": day_in_a_pool,
    "rude": lambda: History(20261123).grow(400),
}


def line(message: Message) -> str:
    """One message as JSON: UTF-8 as text, other bytes as base64."""
    entry: dict[str, object] = {"subject": message.subject}
    try:
        entry["data"] = message.data.decode()
    except UnicodeDecodeError:
        entry["base64"] = base64.b64encode(message.data).decode()
    if message.headers:
        entry["headers"] = dict(message.headers)
    return json.dumps(entry, ensure_ascii=False)


def read(path: Path) -> list[Message]:
    """The messages of a recorded log."""
    messages = []
    for sequence, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        entry = json.loads(text)
        data = entry["data"].encode() if "data" in entry else base64.b64decode(entry["base64"])
        messages.append(Message(sequence, entry["subject"], data, 0, entry.get("headers")))
    return messages


def record(folder: Path, name: str) -> None:
    """The log and what it folds to are on disk, unless they were."""
    path = folder / f"{name}.jsonl"
    if path.exists():
        print(f"{path} is recorded already", file=sys.stderr)
        return
    folder.mkdir(parents=True, exist_ok=True)
    world: World = LOGS[name]()
    path.write_text("".join(line(message) + "\n" for message in world.log), encoding="utf-8")
    pool = world.pool
    expected = {
        "sequence": pool.sequence,
        "term": pool.term,
        "runs": {name: run.settled for name, run in sorted(pool.runs.items())},
        "voids": dict(sorted(pool.voids.items())),
        "judgements": [world.judgements[message.sequence] for message in world.log],
        "digest": digest(pool),
    }
    text = json.dumps(expected, indent=1).replace("\n  ", "").replace("\n ]", "]")
    path.with_suffix(".expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    for log in LOGS:
        record(HERE / sys.argv[1], log)
