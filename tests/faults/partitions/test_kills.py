"""kill -9 before every deed of a rollover, and what goes on around one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import boto3
import psycopg
import pytest
from fix_partitions import daily

import tenantry_partitions
from tenantry_partitions.archive import Store

pytestmark = pytest.mark.slow

POLICY = {"control": "at", "interval": "1 day", "premake": 2}
ARCHIVED = {**POLICY, "retention": "5 days", "at_end": "archive"}
HELD = r"""
SELECT relname::text FROM pg_class WHERE relname ~ '^events_p[0-9]{8}$' AND relkind = 'r'
"""


def run(alone, address, strike, **more):
    told = {"conninfo": alone.conninfo, "address": address, "policy": ARCHIVED, "strike": strike}
    told |= more
    return subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed.py"))],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def rows(alone, store):
    """Rows of every table that is there, and of every archive whose table is gone."""
    names = {name for (name,) in alone.run(HELD)}
    there = sum(alone.run(f"SELECT count(*) FROM {name}")[0][0] for name in names)
    gone = sum(it.content.rows for it in store.manifests() if it.partition not in names)
    return there + gone


def test_killed_before_every_deed(alone, tmp_path):
    """No row is ever unaccounted for, and running again goes on, until all is done."""
    alone.old_days(8, 7, rows=2000)
    alone.old_days(1, rows=10)
    address = f"file://{tmp_path}/archive"
    store = Store.open(address)
    for strike in range(200):
        ended = run(alone, address, strike)
        assert rows(alone, store) == 4010
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert strike > 5
    assert sorted(it.content.rows for it in store.manifests()) == [2000, 2000]
    assert alone.run("SELECT count(*) FROM events") == [(10,)]
    with alone.session():
        pass


@pytest.mark.parametrize("guarded", [False, True])
def test_killed_before_every_deed_of_a_rescue(alone, tmp_path, guarded):
    """No row of the default is ever lost or hidden, and no CHECK of ours is left behind."""
    alone.old_days(4)
    alone.run(
        "CREATE TABLE events_default PARTITION OF events DEFAULT",
        "INSERT INTO events SELECT it, now() - it * interval '1 hour', 'x'"
        " FROM generate_series(0, 40) AS it",
    )
    if guarded:
        alone.run("INSERT INTO events VALUES (1, now() - interval '20 days', 'before')")
    before = alone.run("SELECT count(*), sum(id), min(at), max(at) FROM events")
    for strike in range(100):
        ended = run(alone, f"file://{tmp_path}/archive", strike)
        assert alone.run("SELECT count(*), sum(id), min(at), max(at) FROM events") == before
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert strike > 3
    assert alone.run("SELECT count(*) FROM pg_constraint WHERE conname ~ 'tenantry'") == [(0,)]
    tomorrow = f"events_p{alone.today() + timedelta(days=1):%Y%m%d}"
    assert tomorrow in alone.partitions()


@pytest.mark.parametrize("address", ["moto"], indirect=True)
def test_killed_inside_an_upload_of_several_parts(alone, address, moto):
    """Parts lie there and no file: nothing is lost, and the next run writes it anew."""
    (old,) = alone.old_days(8, rows=4000)
    alone.run(
        f"UPDATE {old} SET body = (SELECT string_agg(md5(id::text || n), '')"
        " FROM generate_series(1, 180) AS n)"
    )
    store, parts = Store.open(address), 9 * 1024 * 1024
    ended = run(alone, address, -1, uploaded=parts)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    client = boto3.client("s3", endpoint_url=moto)
    prefix = address.rpartition("/")[2]
    unfinished = client.list_multipart_uploads(Bucket="archive")["Uploads"]
    assert [it["Key"] for it in unfinished] == [f"{prefix}/public/events/{old}.parquet"]
    assert list(store.manifests()) == []
    assert rows(alone, store) == 4_000
    assert run(alone, address, -1).returncode == 0
    assert rows(alone, store) == 4_000
    assert [it.content.rows for it in store.manifests()] == [4_000]
    client.close()


def test_writers_notice_nothing(alone):
    """Eight writers in transactions, while partitions come and go: not one error."""
    alone.old_days(9, 8, 7)
    alone.roll_over(daily())
    ended, errors, written = threading.Event(), [], []

    def write(number):
        with psycopg.connect(alone.conninfo) as conn:
            while not ended.is_set():
                try:
                    conn.execute(
                        "INSERT INTO events VALUES (%s, clock_timestamp(), 'w')", (number,)
                    )
                    conn.execute(
                        "SELECT count(*) FROM events WHERE at > now() - interval '1 second'"
                    )
                    conn.commit()
                except psycopg.Error as error:
                    errors.append(error)
                    return
                number += 8
                written.append(number)

    writers = [threading.Thread(target=write, args=(it,)) for it in range(1000, 1008)]
    for it in writers:
        it.start()
    report = alone.roll_over(daily(premake=9, retention="5 days", at_end="drop"))
    ended.set()
    for it in writers:
        it.join()
    assert (report.error, report.ahead) == (None, 9)
    assert errors == []
    assert alone.run("SELECT count(*) FROM events WHERE body = 'w'") == [(len(written),)]


def test_a_replica_that_cancels_its_readers(alone, fleet):
    """The rollover does not wait for it; the reader is told to try again, and it catches up."""
    (old,) = alone.old_days(9)
    alone.roll_over(daily())
    replica = fleet.shards[0].replicas[0]
    with psycopg.connect(fleet.superuser_conninfo(replica), autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET max_standby_streaming_delay = '100ms'")
        admin.execute("SELECT pg_reload_conf()")
        with psycopg.connect(fleet.superuser_conninfo(replica, "partitioned")) as reader:
            _caught_up(alone, reader)
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            assert reader.execute(f"SELECT count(*) FROM {old}").fetchone() == (10,)
            report = alone.roll_over(daily(retention="5 days", at_end="drop"))
            assert report.error is None
            with pytest.raises(psycopg.OperationalError, match="conflict with recovery"):
                while True:
                    reader.execute("SELECT pg_sleep(0.2)")
        with psycopg.connect(fleet.superuser_conninfo(replica, "partitioned")) as reader:
            _caught_up(alone, reader)
            assert reader.execute("SELECT to_regclass(%s)", (old,)).fetchone() == (None,)
        admin.execute("ALTER SYSTEM RESET max_standby_streaming_delay")
        admin.execute("SELECT pg_reload_conf()")


def _caught_up(alone, reader):
    """Wait until the replica has replayed what the primary has written."""
    ((lsn,),) = alone.run("SELECT pg_current_wal_flush_lsn()::text")
    while reader.execute("SELECT pg_last_wal_replay_lsn() >= %s", (lsn,)).fetchone() != (True,):
        reader.execute("SELECT pg_sleep(0.05)")
    reader.rollback()


def test_the_operators_clock_is_never_asked():
    """What is due is decided by the database's time, whatever this machine believes."""
    package = Path(tenantry_partitions.__file__).parent
    asked = {
        path.name
        for path in package.rglob("*.py")
        for word in ("datetime.now", "time.time(", ".today(", "utcnow")
        if word in path.read_text()
    }
    # A migration's script that is written offline has no server to ask.
    assert asked == {"operations.py"}
