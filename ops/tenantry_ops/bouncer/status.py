"""What PgBouncers do right now: one row for each database of each."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from tenantry_ops.bouncer.ini import MAIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tenantry_ops.bouncer.console import Console
    from tenantry_ops.bouncer.pooler import Pooler
    from tenantry_ops.bouncer.readback import Row

_SUMMED = ("cl_active", "cl_waiting", "sv_active", "sv_idle", "sv_login")
_US = 1_000_000


def status(poolers: Sequence[Pooler]) -> list[dict[str, Any]]:
    """Ask every PgBouncer.

    :raises BouncerError: when one does not answer
    """
    found = []
    for pooler in poolers:
        with pooler.open() as console:
            found += _status(console)
    return found


def _status(console: Console) -> list[dict[str, Any]]:
    head = {"pooler": console.where, "version": str(console.version)}
    pools = console.show("POOLS")
    stats = {row["database"]: row for row in console.show("STATS")}
    return [
        {**head, **database_row(row, pools, stats.get(row["name"], {}))}
        for row in console.show("DATABASES")
        if row["name"] != MAIN
    ]


def database_row(row: Row, pools: Sequence[Row], stats: Mapping[str, Any]) -> dict[str, Any]:
    """Put together what is shown of one database: pure.

    :param pools: rows of ``SHOW POOLS``, one for each database and user
    """
    sums: dict[str, int] = defaultdict(int)
    longest = 0.0
    for pool in pools:
        if pool["database"] == row["name"]:
            for column in _SUMMED:
                sums[column] += pool[column]
            longest = max(longest, pool["maxwait"] + pool["maxwait_us"] / _US)
    state = "disabled" if row["disabled"] else "paused" if row["paused"] else "open"
    return {
        "database": row["name"],
        "state": state,
        "leads_to": f"{row['host']}:{row['port']}/{row['database']}",
        "connections": row["current_connections"],
        "most": row["max_connections"],
        **{column: sums[column] for column in _SUMMED},
        "longest_wait_s": round(longest, 3),
        "transactions": stats.get("total_xact_count", 0),
        "average_wait_us": stats.get("avg_wait_time", 0),
    }
