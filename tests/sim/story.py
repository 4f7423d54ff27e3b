"""A failure as a short story. Rule: what can be left out while the promise still breaks, is."""

from __future__ import annotations

import time

from dtf.core.fold import Fold
from dtf.core.ports import Message

from .campaign import Outcome, live
from .nodes import POOL
from .plan import Plan, make_plan
from .world import World

SHRINK_S = 60.0


def shrink(plan: Plan, rule: str, seconds: float = SHRINK_S) -> Plan:
    """The plan with as few steps as still break this promise."""
    until = time.monotonic() + seconds

    def breaks(steps: tuple[object, ...]) -> bool:
        return live(plan._replace(steps=steps))[1].rule == rule  # type: ignore[arg-type]

    steps = plan.steps
    size = max(1, len(steps) // 2)
    while time.monotonic() < until:
        start, before = 0, len(steps)
        while start < len(steps) and time.monotonic() < until:
            fewer = steps[:start] + steps[start + size :]
            if breaks(fewer):
                steps = fewer
            else:
                start += size
        if size == 1 and len(steps) == before:
            break
        size = max(1, size // 2)
    return plan._replace(steps=steps)


def tell(world: World, plan: Plan, outcome: Outcome, messages: int = 25) -> str:
    """The steps, what happened, and the end of the log, in words."""
    lines = [f"seed {plan.seed}, message {outcome.step}, {outcome.virtual_s:.3f} s:"]
    lines += [f"  {outcome.detail[:1000]}", "", "What was asked for and what went wrong:"]
    lines += [f"  {step}" for step in plan.steps] or ["  nothing"]
    lines.append(f"  {plan.coordinators} coordinators; hints: {plan.hints}")
    lines.append(f"  the broker knows message ids: {plan.dedup}; lost ones kept: {plan.keep}")
    lines += ["", "What happened (virtual seconds):"]
    lines += [f"  {line}" for line in world.story[-40:]]
    lines += ["", "The end of the log:"]
    fold = Fold(POOL)
    told = [_message(fold, message) for message in world.log.messages]
    return "\n".join(lines + told[-messages:])


def _message(fold: Fold, message: Message) -> str:
    judged = fold.apply(message)
    words = []
    for event, void in zip(judged.events, judged.voids, strict=False):
        about = [
            str(getattr(event, name))
            for name in ("term", "coordinator", "incarnation", "token", "task", "verdict", "cause")
            if getattr(event, name, None) not in (None, "")
        ]
        words.append(
            " ".join([type(event).__name__, *about]) + (f" (void: {void})" if void else "")
        )
    more = f" ... {len(words) - 4} more" if len(words) > 4 else ""
    subject = message.subject.partition(f"{POOL}.")[2]
    return f"  {message.sequence:5d}  {subject:<40s} {'; '.join(words[:4])}{more}"


def explain(seed: int, seconds: float = SHRINK_S) -> str:
    """The seed lived once more, shrunk, and told; "" when nothing breaks."""
    plan = make_plan(seed)
    outcome = live(plan)[1]
    if not outcome.rule:
        return ""
    small = shrink(plan, outcome.rule, seconds)
    world, last = live(small)
    return tell(world, small, last)
