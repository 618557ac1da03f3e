"""How many partitions lie ready for each table: an exit code and metrics, pure but for the file.

Whoever watches does not need to trust the rollover's own success: the lead is counted from bounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tenantry_ops.partitions.walk import DatabaseReport

_LABELS = ("database", "schema", "table")

OK, FAILED, BEHIND = 0, 1, 3


def exit_code(reports: Sequence[DatabaseReport], alert: int) -> int:
    """Return 1 when anything failed, 3 when a table has too few partitions ahead, else 0.

    :param alert: partitions that must lie ahead; a smaller premake is enough for its table
    """
    if any(it.failed for it in reports):
        return FAILED
    behind = any(
        it.ahead is not None and it.ahead < min(alert, it.premake)
        for report in reports
        for it in report.tables
    )
    return BEHIND if behind else OK


def write_metrics(path: Path, reports: Sequence[DatabaseReport], now: float) -> None:
    """Write what node_exporter's textfile collector reads; the file is replaced at once.

    :param now: seconds since the epoch
    """
    registry = CollectorRegistry()

    def gauge(name: str, text: str, labels: tuple[str, ...] = _LABELS) -> Gauge:
        return Gauge(f"tenantry_partitions_{name}", text, labels, registry=registry)

    ahead = gauge("ahead", "Partitions that lie ready beyond the current one; -1 for none.")
    wrong = gauge("wrong", "Findings that need a person.")
    stall = gauge("stall_seconds", "The longest stall that the last run could have caused.")
    failed = gauge("failed", "Whether the last run failed for the table.")
    reached = gauge("database_failed", "Whether the last run failed as a whole.", ("database",))
    last = gauge("last_run_timestamp_seconds", "When the last run ended.", ())
    for report in reports:
        reached.labels(report.name).set(report.error is not None)
        for it in report.tables:
            labels = (report.name, it.schema, it.table)
            if it.ahead is not None:
                ahead.labels(*labels).set(it.ahead)
            wrong.labels(*labels).set(sum(found.wrong for found in it.findings))
            stall.labels(*labels).set(it.stall_ms / 1000)
            failed.labels(*labels).set(it.error is not None)
    last.set(now)
    write_to_textfile(str(path), registry)
