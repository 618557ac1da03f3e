"""What is promised of a rollover, and whether what was measured keeps it: pure."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: The cases, as the measuring code names them.
READER, DEFAULT = "4 s reader", "full default"

_STALL_MS, _PARTMAN, _BUCKETS_S, _LINEAR = 100.0, 20.0, 60.0, 1.5
_COPY, _MEMORY_MB = 0.5, 256.0


@dataclass(frozen=True, slots=True)
class Run:
    """One measured rollover.

    :ivar buckets: of the shard, in the case of many
    """

    case: str
    way: str
    number: int
    stall_ms: float
    seconds: float
    buckets: int = 0


def promises(runs: Sequence[Run], archived: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each promise that something was measured for, and whether it holds."""
    return [*_of_stalls(runs), *_of_buckets(runs), *_of_archives(archived)]


def _of_stalls(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    felt = {
        (case, way): [it.stall_ms for it in runs if (it.case, it.way) == (case, way)]
        for case in (READER, DEFAULT)
        for way in ("ours", "pg_partman", "pg-partsmith")
    }
    ours = felt[READER, "ours"]
    if ours:
        yield _at_most("longest write stall, ms", max(ours), _STALL_MS)
    for case in (READER, DEFAULT):
        ours, theirs = felt[case, "ours"], felt[case, "pg_partman"]
        if ours and theirs:
            factor = median(theirs) / median(ours)
            yield _at_least(f"pg_partman's stall over ours, {case}", factor, _PARTMAN)
    if felt[READER, "pg-partsmith"]:
        theirs = felt[READER, "pg-partsmith"]
        factor = median(theirs) / median(felt[READER, "ours"])
        yield _at_least("pg-partsmith's stall over ours", factor, 1.0)


def _of_buckets(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    many = sorted((it for it in runs if it.buckets), key=lambda it: it.buckets)
    if not many:
        return
    few, most = many[0], many[-1]
    yield _at_most(f"seconds for {most.buckets} buckets x 2 tables", most.seconds, _BUCKETS_S)
    yield _at_most(f"write stall meanwhile, ms, {most.buckets} buckets", most.stall_ms, _STALL_MS)
    if few.buckets < most.buckets:
        grown = (most.seconds / most.buckets) / (few.seconds / few.buckets)
        told = f"seconds for a bucket, of {most.buckets} over of {few.buckets}"
        yield _at_most(told, grown, _LINEAR)


def _of_archives(archived: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for it in archived:
        yield _at_least("archive's throughput over a bare COPY's", it["export_ratio"], _COPY)
        yield _at_most(f"peak MB for {it['table_mb']} MB", it["peak_mb"], _MEMORY_MB)


def _at_most(promise: str, measured: float, bound: float) -> dict[str, Any]:
    return _row(promise, measured, f"at most {bound:g}", holds=measured <= bound)


def _at_least(promise: str, measured: float, bound: float) -> dict[str, Any]:
    return _row(promise, measured, f"at least {bound:g}", holds=measured >= bound)


def _row(promise: str, measured: float, bound: str, *, holds: bool) -> dict[str, Any]:
    return {"promise": promise, "measured": round(measured, 2), "bound": bound, "holds": holds}
