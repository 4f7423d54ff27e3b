"""`dtf coordinator ...`. Rule: parse, call, return; functions import what is heavy."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ..core.listing import Column, Listing
from ..core.session import current


def run(
    *,
    name: Annotated[str | None, Parameter(help="Name of this replica; default: host name.")] = None,
    lease_ttl_ms: Annotated[
        int,
        Parameter(help="Time to live of the leader key: takeover after a crash takes this long."),
    ] = 3000,
    silence_ms: Annotated[
        int, Parameter(help="A worker without a heartbeat for this long is lost.")
    ] = 4000,
) -> int:
    """Run one coordinator until it is stopped (Ctrl-C or SIGTERM).

    Any number of replicas may run; the log elects one of them, the others stand by.
    """
    from .process import run_process
    from .service import CoordinatorOptions

    options = CoordinatorOptions(lease_ttl_ms=lease_ttl_ms, silence_ms=silence_ms)
    return run_process(current().config, name, options)


def ls() -> Listing:
    """Who holds the leader key now, and since which change of it."""
    import anyio

    from .process import read_lease

    lease = anyio.run(read_lease, current().config)
    columns = [
        Column(name="coordinator", kind="id"),
        Column(name="incarnation", kind="id", wide=True),
        Column(name="revision", kind="count"),
    ]
    if not lease.holder:
        return Listing(
            kind="coordinators",
            columns=columns,
            rows=[],
            empty="Nobody leads: `dtf coordinator run`.",
        )
    name, incarnation = [*lease.holder.split("/"), ""][:2]
    return Listing(kind="coordinators", columns=columns, rows=[[name, incarnation, lease.revision]])
