"""The verdict of the rollover's benchmark."""

from __future__ import annotations

from tenantry_loadtest.bench.rollover.promises import DEFAULT, READER, Run, promises

KEPT = [
    *(Run(READER, "ours", it, stall, 4.3) for it, stall in enumerate((20.0, 40.0, 30.0))),
    *(Run(READER, "pg_partman", it, 3_800.0, 4.1) for it in range(3)),
    Run(READER, "pg-partsmith", 0, 175.0, 4.4),
    Run(DEFAULT, "ours", 0, 30.0, 0.5),
    Run(DEFAULT, "pg_partman", 0, 2_100.0, 0.6),
    Run("64 buckets x 2 tables", "ours", 0, 15.0, 4.0, buckets=64),
    Run("256 buckets x 2 tables", "ours", 0, 16.0, 17.0, buckets=256),
]
ARCHIVED = [{"export_ratio": 0.7, "table_mb": 1_090, "peak_mb": 190}]


def broken(runs, archived=()):
    return [it["promise"] for it in promises(runs, archived) if not it["holds"]]


def test_every_promise_is_looked_at():
    """Stalls beside both peers, the default, many buckets, archives."""
    assert len(promises(KEPT, ARCHIVED)) == 9
    assert broken(KEPT, ARCHIVED) == []
    assert promises([], []) == []


def test_one_long_stall_breaks_the_promise():
    """The longest of all rounds counts, not the median."""
    assert broken([*KEPT, Run(READER, "ours", 3, 101.0, 4.3)]) == ["longest write stall, ms"]


def test_what_grows_faster_than_buckets():
    """Twice as long for each of four times as many."""
    slow = [it for it in KEPT if it.buckets != 256]
    slow.append(Run("256", "ours", 0, 16.0, 32.0, buckets=256))
    assert broken(slow) == ["seconds for a bucket, of 256 over of 64"]


def test_archives_that_are_slow_or_large():
    """Half of a bare COPY, and 256 MB whatever the partition has."""
    assert len(broken([], [{"export_ratio": 0.49, "table_mb": 1_090, "peak_mb": 257}])) == 2
