"""A run while it goes on. Rule: a picture is a pure function of what was seen and of the time.

On a terminal a few lines that are drawn again; elsewhere a line every ten seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from .console import ascii_only
from .formats import plural, short_run, shorten, span
from .glyphs import LOOKS, look, mark

if TYPE_CHECKING:
    from ..core.follow import RunView
    from ..core.task_view import TaskView

REDRAW_S = 0.125
LINE_S = 10.0
RUNNING_SHOWN = 6
FAILURES_SHOWN = 20
"""Failures named while the run goes on; the summary names the rest."""
RATE_WINDOW_S = 10.0
BAR_MAX = 60
_COUNTED = tuple(LOOKS)[: tuple(LOOKS).index("running")]


class Progress(NamedTuple):
    """What is shown of a run at one moment."""

    name: str
    run: str
    size: int
    counts: dict[str, int]
    running: int
    elapsed_s: float
    rate: float | None = None
    """Tasks settled a second, lately; None while unknown."""
    at_work: Sequence[tuple[str, str, float]] = ()
    """(task, worker, seconds) of some running tasks."""
    cancelling: bool = False

    @property
    def settled(self) -> int:
        return sum(self.counts.values())

    @property
    def queued(self) -> int:
        return max(0, self.size - self.settled - self.running)


def picture(now: Progress, width: int, *, plain: bool) -> list[Text]:
    """The lines of the live view, each at most `width` characters."""
    head = Text.assemble(
        (shorten(now.name or "run", max(10, width - 30)), "bold"), "  ", (short_run(now.run), "dim")
    )
    if now.cancelling:
        head.append("  cancelling", style="yellow")
    lines = [head, _bar(now, width, plain), _counts(now, width, plain)]
    sign = mark("running", ascii_only=plain)
    for task, worker, seconds in now.at_work[:RUNNING_SHOWN]:
        tail = f"  {worker}  {span(seconds)}"
        room = max(8, width - len(tail) - 4)
        lines.append(
            Text.assemble(
                (f"  {sign} ", LOOKS["running"].style),
                shorten(task, room, ellipsis="..." if plain else "…"),
                (tail, "dim"),
            )
        )
    for line in lines:
        line.truncate(width)
    return lines


def _bar(now: Progress, width: int, plain: bool) -> Text:
    share = now.settled / now.size if now.size else 0.0
    told = f" {share * 100:3.0f} %  {span(now.elapsed_s)}{_remaining(now)}"
    length = max(8, min(BAR_MAX, width - len(told)))
    full = int(length * share)
    done, rest = ("#", "-") if plain else ("━", "─")
    bad = any(now.counts.get(v) for v in ("failed", "error", "timed_out"))
    return Text.assemble(
        (done * full, "red" if bad else "green"), (rest * (length - full), "dim"), told
    )


def _remaining(now: Progress) -> str:
    if not now.rate or now.settled >= now.size:
        return ""
    return f", about {span((now.size - now.settled) / now.rate)} left"


def _counts(now: Progress, width: int, plain: bool) -> Text:
    """Counts by verdict with marks; words give way where the line is narrow."""
    counts = [(name, now.counts.get(name, 0)) for name in _COUNTED]
    counts += [("running", now.running), ("queued", now.queued)]
    shown = [(name, count) for name, count in counts if count]
    for words in (True, False):
        line = Text()
        for name, count in shown:
            seen = look(name)
            text = f"{mark(name, ascii_only=plain)} {count:,}"
            line.append(f"{text} {seen.word}" if words else text, style=seen.style)
            line.append("  ")
        if now.rate and words:
            line.append(f"{now.rate:.1f}/s" if now.rate < 100 else f"{now.rate:,.0f}/s", "dim")
        line.rstrip()
        if line.cell_len <= width:
            break
    return line


def plain_line(now: Progress) -> str:
    """The same in one line, for logs."""
    parts = [f"{count:,} {look(name).word}" for name, count in now.counts.items() if count]
    if now.running:
        parts.append(f"{now.running:,} running")
    done = f"{now.settled:,} of {plural(now.size, 'task')} done"
    return f"{span(now.elapsed_s)}: {done}" + (f" ({', '.join(parts)})" if parts else "")


def failure_line(task: TaskView, width: int, *, plain: bool) -> Text:
    """One settled task that did not pass, in one line."""
    verdict = str(task.verdict)
    seen = look(verdict)
    first = (task.message or task.tail.strip().rpartition("\n")[2]).strip().partition("\n")[0]
    line = Text.assemble(
        (f"{mark(verdict, ascii_only=plain)} ", seen.style),
        task.label or task.id,
        (f"  {seen.word}", seen.style),
        (f"  {first}" if first else "", "dim"),
    )
    line.truncate(width, overflow="ellipsis")
    return line


class ProgressView:
    """Shows a run on a console while it goes on; use as a context manager, call `update` often."""

    def __init__(
        self, console: Console, *, wanted: bool, started_s: float, live: bool | None = None
    ) -> None:
        """`live`: draw again and again; None: where the stream is a terminal that can."""
        self.console = console
        self.plain = ascii_only(console)
        self.wanted = wanted
        if live is None:  # the stream itself is asked: FORCE_COLOR makes no terminal of a pipe
            live = console.file.isatty() and not console.is_dumb_terminal
        self._live = (
            Live(console=console, auto_refresh=False, transient=True) if wanted and live else None
        )
        self._started_s = started_s
        self._drawn_s = started_s
        self._lines: list[Text] = []
        self._named: set[str] = set()
        self._bad = 0
        self._since: dict[str, float] = {}
        self._rates: deque[tuple[float, int]] = deque()

    def __enter__(self) -> ProgressView:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, view: RunView, now_s: float) -> None:
        """Take note of the run; draw when it is time to."""
        if not self.wanted:
            return
        pause = REDRAW_S if self._live else LINE_S
        if now_s - self._drawn_s < pause:
            return
        self._drawn_s = now_s
        self._name_failures(view)
        now = self.progress(view, now_s)
        if self._live:
            lines = picture(now, self.console.width, plain=self.plain)
            if lines != self._lines:
                self._lines = lines
                self._live.update(Group(*lines), refresh=True)
        else:
            self.console.print(plain_line(now), soft_wrap=True)

    def progress(self, view: RunView, now_s: float) -> Progress:
        """What is to be shown of the view now."""
        counts = {str(verdict): count for verdict, count in view.counts.items() if count}
        return Progress(
            name=view.name,
            run=view.run,
            size=view.size,
            counts=counts,
            running=view.running,
            elapsed_s=now_s - self._started_s,
            rate=self._rate(now_s, sum(counts.values())),
            at_work=self._at_work(view, now_s) if self._live else (),
            cancelling=view.cancelling,
        )

    def _rate(self, now_s: float, settled: int) -> float | None:
        self._rates.append((now_s, settled))
        while len(self._rates) > 2 and now_s - self._rates[0][0] > RATE_WINDOW_S:
            self._rates.popleft()
        then_s, before = self._rates[0]
        if now_s - then_s < 1.0 or settled <= before:
            return None
        return (settled - before) / (now_s - then_s)

    def _at_work(self, view: RunView, now_s: float) -> list[tuple[str, str, float]]:
        """Some running tasks, those we have seen running longest first."""
        running = list(islice(view.running_tasks(), RUNNING_SHOWN))
        self._since = {task.id: self._since.get(task.id, now_s) for task in running}
        return [(t.label or t.id, t.worker, now_s - self._since[t.id]) for t in running]

    def _name_failures(self, view: RunView) -> None:
        """Failures are said as they come, the first few of them."""
        bad = sum(n for v, n in view.counts.items() if v not in ("passed", "skipped"))
        if bad == self._bad or len(self._named) >= FAILURES_SHOWN:
            return
        self._bad = bad
        for task in view.failures():
            if task.id not in self._named:
                self._named.add(task.id)
                line = failure_line(task, self.console.width, plain=self.plain)
                self.console.print(line, soft_wrap=True)
                if len(self._named) >= FAILURES_SHOWN:
                    return
