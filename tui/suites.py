"""From suite files to a submission. Rule: everything is checked before anything is sent.

Several suites make one run: their tasks side by side, each with its own bundle.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ..core.errors import InvalidSuite, UserError
from ..core.ids import random_id
from ..core.session import current
from ..core.submit import GROUP_NAME_MAX, GroupPlan, Submission
from ..core.suite import (
    Filters,
    Suite,
    demand_shipped,
    expand,
    filter_hints,
    load_suite,
    suite_submission,
)

if TYPE_CHECKING:
    from ..core.client import Client


class Wishes(NamedTuple):
    """What the command line adds to what the suites say."""

    key: str | None = None
    priority: int | None = None
    labels: dict[str, str] | None = None
    allow_fallback: bool = False
    wait_for_capacity: bool = False


class Chosen(NamedTuple):
    """A suite and the groups of it that were selected."""

    suite: Suite
    plans: Sequence[GroupPlan]


class NothingSelected(UserError):
    """The filters chose no task; exit code 6."""


def choose(paths: Sequence[Path], filters: Filters, wishes: Wishes) -> list[Chosen]:
    """The selected groups of each suite. Raises `InvalidSuite` and `NothingSelected`."""
    if not paths:
        raise UserError("no suite is named", remedy="dtf run suite.toml (write one: dtf init)")
    chosen = []
    hints: list[str] = []
    for path in paths:
        suite = load_suite(path)
        plans = expand(suite, filters)
        hints += filter_hints(suite, filters)
        if wishes.allow_fallback:
            plans = [_allow_fallback(plan) for plan in plans]
        if plans:
            chosen.append(Chosen(suite, plans))
    if not chosen:
        told = "; ".join(dict.fromkeys(hints)) or "no task matches all filters together"
        raise NothingSelected(
            f"nothing is selected, so nothing was run: {told}",
            remedy=f"dtf plan {' '.join(map(str, paths))}",
        )
    return chosen


def parse_filters(model: Sequence[str], hardware: Sequence[str], expression: str) -> Filters:
    """Filters from `-m axis=value`, `-H class` and `-k expression`. Raises `UserError`."""
    axes: dict[str, list[str]] = {}
    for text in model:
        name, equals, values = text.partition("=")
        if not equals or not name or not values:
            raise UserError(
                f"-m {text!r} is not axis=value",
                remedy="Such as: -m model=magika,silero -m batch=1",
            )
        axes.setdefault(name.strip(), []).extend(v.strip() for v in values.split(","))
    classes = [name.strip() for text in hardware for name in text.split(",") if name.strip()]
    return Filters(axes=axes, hardware=classes, expression=expression)


def parse_labels(texts: Sequence[str]) -> dict[str, str]:
    """Labels from `key=value`. Raises `UserError`."""
    labels = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UserError(f"--label {text!r} is not key=value", remedy="Such as: --label pr=42")
        labels[key] = value
    return labels


def largest(chosen: Sequence[Chosen]) -> tuple[int, int]:
    """(thousandths of a core, bytes of memory) that the most demanding tasks need."""
    needs = [plan.spec.require for each in chosen for plan in each.plans]
    return max(n.cpu_milli for n in needs), max(n.memory_bytes for n in needs)


async def make_submission(client: Client, chosen: Sequence[Chosen], wishes: Wishes) -> Submission:
    """The run to submit; the suites' bundles are stored by then."""
    publisher = current().config.publisher
    name = " + ".join(each.suite.name for each in chosen)
    key = wishes.key or f"{chosen[0].suite.name[:64]}-{random_id(12)}"
    groups: list[GroupPlan] = []
    labels: dict[str, str] = {}
    for each in chosen:
        part = suite_submission(
            each.suite,
            each.plans,
            publisher=publisher,
            key=key,
            bundle=await _put_bundle(client, each.suite),
            priority=wishes.priority,
            labels=wishes.labels,
        )
        groups += _distinct(part.groups, each.suite, {group.name for group in groups})
        labels |= part.labels
    priorities = [each.suite.priority for each in chosen]
    return Submission(
        publisher=publisher,
        key=key,
        groups=groups,
        name=name[:256],
        priority=max(priorities) if wishes.priority is None else wishes.priority,
        labels=labels,
        wait_for_capacity=wishes.wait_for_capacity
        or any(each.suite.wait_for_capacity for each in chosen),
    )


async def _put_bundle(client: Client, suite: Suite) -> str | None:
    """The digest of the suite's working tree, stored; None when it ships none."""
    plan = suite.bundle
    if plan is None:
        return None
    from functools import partial

    import anyio.to_thread

    from ..core.bundle import pack

    limit = plan.limit if plan.limit is not None else current().config.bundle_limit
    packed = await anyio.to_thread.run_sync(partial(pack, plan.root, limit, exclude=plan.exclude))
    demand_shipped(suite, packed.files)
    return await client.put_bundle(packed.path)


def _allow_fallback(plan: GroupPlan) -> GroupPlan:
    spec = msgspec.structs.replace(plan.spec, allow_fallback=True)
    return msgspec.structs.replace(plan, spec=spec)


def _distinct(groups: Sequence[GroupPlan], suite: Suite, taken: set[str]) -> list[GroupPlan]:
    """The groups, renamed after their suite where another suite has one of the name."""
    from ..core.ids import to_name

    renamed = []
    for group in groups:
        if group.name in taken:
            name = to_name(f"{suite.name}-{group.name}")[: GROUP_NAME_MAX - 6]
            if name in taken:
                raise InvalidSuite(
                    f"{suite.path}: task {group.label!r} is in another suite of this run too",
                    remedy="Give the suites names of their own, or run them one by one.",
                )
            label = f"{suite.name}: {group.label}"
            group = msgspec.structs.replace(group, name=name, label=label)
        renamed.append(group)
    return renamed
