"""Archives: written, read back, compared by the server itself, and only then dropped."""

from __future__ import annotations

import json
import os
import time
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import duckdb
import obstore
import psycopg
import pytest
from fix_partitions import daily
from proxy import proxied
from pyarrow import parquet
from typer.testing import CliRunner

from tenantry_ops.cli.partitions import app
from tenantry_partitions.archive import Archiver, Store, restore
from tenantry_partitions.archive.manifest import Manifest
from tenantry_partitions.budget import Budget
from tenantry_partitions.encoding import Encoding, encode
from tenantry_partitions.policies import set_policy
from tenantry_partitions.rollover import roll_over
from tenantry_schema.errors import (
    AlreadyExists,
    ArchiveMismatch,
    InvalidConfig,
    LockNotGranted,
    RolloverFailed,
)

ARCHIVED = daily(retention="5 days", at_end="archive")
EVERYTHING = """
CREATE TYPE mood AS ENUM ('fine', 'tired');
CREATE TABLE odd (
    tenant_id uuid NOT NULL, at timestamptz NOT NULL, n int NOT NULL,
    small smallint, big bigint, real4 real, real8 double precision, exact numeric,
    body text, short varchar(9), doc jsonb, plain json, raw bytea, many text[], span interval,
    local timestamp, day date, flag boolean, mood mood, net inet,
    twice int GENERATED ALWAYS AS (n * 2) STORED,
    PRIMARY KEY (tenant_id, at, n)
) PARTITION BY RANGE (at)
"""
ODD_ROWS = r"""
INSERT INTO odd SELECT
    gen_random_uuid(), '{day}'::timestamptz + n * interval '1.000001 seconds', n,
    n, -n * 1000000007::bigint, n / 3.0, exp(n % 700), n / 7.0,
    CASE n % 5 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN E'a "quoted"\n, \\N line'
        WHEN 3 THEN 'snow ☃ \x' ELSE 'NULL' END,
    'v' || n % 9, jsonb_build_object('n', n, 'x', E'\u00e9"'), '{{"b": 1,  "a": [null]}}',
    decode(md5(n::text), 'hex'), ARRAY['a,b', NULL, '"'], n * interval '1 month 1 second',
    '{day}'::timestamp, '{day}'::date, CASE n % 3 WHEN 0 THEN NULL WHEN 1 THEN true ELSE false END,
    CASE n % 2 WHEN 0 THEN 'fine'::mood END, '10.0.0.1/8'
FROM generate_series(1, 3000) AS n
"""


def roll(alone, address, target=("public", "events"), policy=ARCHIVED):
    with alone.session() as conn:
        archiver = Archiver(Store.open(address))
        (report,) = roll_over(conn, {target: policy}, alone.budget, archiver=archiver)
    return report


@pytest.mark.parametrize("address", ["file", "rclone", "moto"], indirect=True)
def test_there_and_back_again(alone, address):
    """Every kind of value, on every kind of store; what comes back is what was there."""
    for statement in EVERYTHING.split(";"):
        alone.run(statement)
    target = ("public", "odd")
    start = alone.run("SELECT date_trunc('day', now(), 'UTC') - interval '9 days'")[0][0]
    alone.run(
        f"CREATE TABLE odd_p{start:%Y%m%d} PARTITION OF odd "
        f"FOR VALUES FROM ('{start}') TO ('{start}'::timestamptz + interval '1 day')",
        ODD_ROWS.format(day=start),
        "INSERT INTO odd (tenant_id, at, n, real8, local, day) VALUES "
        f"(gen_random_uuid(), '{start}', 0, 'NaN', NULL, NULL), "
        f"(gen_random_uuid(), '{start}', -1, '-Infinity', NULL, NULL)",
    )
    content = "SELECT count(*), sum(hashtextextended(it::text, 0)) FROM odd AS it"
    before = alone.run(content)
    report = roll(alone, address, target)
    assert report.error is None
    assert [it.step.verb for it in report.outcomes][-3:] == ["detach", "archive", "drop"]
    assert alone.run(f"SELECT to_regclass('odd_p{start:%Y%m%d}')") == [(None,)]
    (manifest,) = Store.open(address).manifests()
    assert manifest.content.rows == 3002
    with alone.session() as conn:
        restore(conn, Store.open(address), manifest, ARCHIVED, alone.budget)
    assert alone.run(content) == before
    # What was restored stays, although its retention has passed.
    assert roll(alone, address, target).outcomes == ()
    with alone.session() as conn, pytest.raises(AlreadyExists, match="nothing was restored"):
        restore(conn, Store.open(address), manifest, ARCHIVED, alone.budget)
    alone.run(f"COMMENT ON TABLE odd_p{start:%Y%m%d} IS NULL")
    again = roll(alone, address, target)
    assert [it.step.verb for it in again.outcomes] == ["detach", "archive", "drop"]
    assert again.error is None


@pytest.mark.parametrize("address", ["file"], indirect=True)
def test_any_parquet_reader_can_query_it(alone, address):
    """By tenant and time; the file says itself what it is."""
    (old,) = alone.old_days(9, rows=50)
    assert roll(alone, address).error is None
    folder = address.removeprefix("file://")
    found = duckdb.sql(
        f"SELECT count(*), min(body) FROM read_parquet('{folder}/public/events/*.parquet') "
        "WHERE id BETWEEN 10 AND 19 AND \"at\" > TIMESTAMPTZ '2020-01-01'"
    ).fetchall()
    assert found == [(10, "row 10")]
    metadata = parquet.read_metadata(f"{folder}/public/events/{old}.parquet").metadata
    assert metadata[b"tenantry.rows"] == b"50"
    assert metadata[b"tenantry.table"] == b"events"


@pytest.mark.parametrize("address", ["file"], indirect=True)
def test_values_that_only_postgres_has(alone, address):
    """Kept as the text that it prints: a moment of infinity, a date before Christ."""
    alone.run("ALTER TABLE events ADD COLUMN ends timestamptz, ADD COLUMN born date")
    (old,) = alone.old_days(9, rows=0)
    start = alone.today()
    alone.run(
        f"INSERT INTO events VALUES (1, '{start}'::timestamptz - interval '9 days', 'x', "
        "'infinity', '0044-03-15 BC')"
    )
    assert roll(alone, address).error is None
    (manifest,) = Store.open(address).manifests()
    with alone.session() as conn:
        restore(conn, Store.open(address), manifest, ARCHIVED, alone.budget)
    assert alone.run("SELECT ends::text, born::text FROM events") == [("infinity", "0044-03-15 BC")]
    assert old in alone.partitions()


@pytest.mark.parametrize("address", ["file"], indirect=True)
def test_a_row_that_is_longer_than_what_is_read_at_once(alone, address):
    """Three megabytes in one value, between ordinary rows."""
    (old,) = alone.old_days(9, rows=3)
    alone.run(f"UPDATE {old} SET body = repeat('long ', 600000) WHERE id = 2")
    content = "SELECT count(*), sum(hashtextextended(it::text, 0)) FROM events AS it"
    before = alone.run(content)
    assert roll(alone, address).error is None
    (manifest,) = Store.open(address).manifests()
    with alone.session() as conn:
        restore(conn, Store.open(address), manifest, ARCHIVED, alone.budget)
    assert alone.run(content) == before


@pytest.mark.parametrize("address", ["file"], indirect=True)
def test_ids_by_time(alone, address):
    """A table whose partitions are ranges of UUIDs: retired, archived and restored like others."""
    policy = ARCHIVED.parse({**ARCHIVED.as_row(), "control": "id"})
    start = alone.today() - timedelta(days=9)
    first, last = (encode(start + timedelta(days=it), Encoding.UUID7) for it in (0, 1))
    alone.run(
        "CREATE TABLE ids (id uuid NOT NULL, body text) PARTITION BY RANGE (id)",
        f"CREATE TABLE ids_p{start:%Y%m%d} PARTITION OF ids"
        f" FOR VALUES FROM ('{first}') TO ('{last}')",
        f"INSERT INTO ids VALUES ('{first}', 'old')",
    )
    assert roll(alone, address, ("public", "ids"), policy).error is None
    assert alone.run("SELECT count(*) FROM ids") == [(0,)]
    (manifest,) = Store.open(address).manifests()
    with alone.session() as conn:
        restore(conn, Store.open(address), manifest, policy, alone.budget)
    assert alone.run("SELECT id::text, body FROM ids") == [(first, "old")]


@pytest.mark.parametrize("address", ["file"], indirect=True)
@pytest.mark.parametrize(("behind", "refused"), [(20, False), (9, True)])
def test_a_restore_beside_a_default_with_rows(alone, address, behind, refused):
    """Its rows are not scanned under lock; what lies in the range already is not covered up."""
    (old,) = alone.old_days(9)
    assert roll(alone, address).error is None
    alone.run(
        "CREATE TABLE events_default PARTITION OF events DEFAULT",
        f"INSERT INTO events VALUES (1, now() - interval '{behind} days', 'late')",
    )
    (manifest,) = Store.open(address).manifests()
    said = []
    with alone.session() as conn:
        conn.execute("SET client_min_messages = debug1")
        conn.add_notice_handler(lambda notice: said.append(notice.message_primary))
        with pytest.raises(AlreadyExists) if refused else nullcontext():
            restore(conn, Store.open(address), manifest, ARCHIVED, alone.budget)
    assert (old in alone.partitions()) != refused
    assert any('default partition "events_default" is implied' in it for it in said) != refused
    assert alone.run("SELECT count(*) FROM pg_constraint WHERE conname ~ 'tenantry'") == [(0,)]


@pytest.mark.parametrize("address", ["file"], indirect=True)
def test_a_restore_that_gets_no_lock(alone, address):
    """Said by name after the budget is spent; nothing was restored."""
    (old,) = alone.old_days(9)
    assert roll(alone, address).error is None
    (manifest,) = Store.open(address).manifests()
    with psycopg.connect(alone.conninfo) as holder, alone.session() as conn:
        holder.execute("LOCK TABLE events IN SHARE ROW EXCLUSIVE MODE")
        with pytest.raises(LockNotGranted, match=f"pid {holder.info.backend_pid}"):
            restore(conn, Store.open(address), manifest, ARCHIVED, Budget(total=0.5))
    assert alone.run(f"SELECT to_regclass('{old}')") == [(None,)]


@pytest.mark.parametrize("address", ["file"], indirect=True)
def test_a_bucket_that_got_another_name(alone, address):
    """What was archived under the old name is restored under the new one."""
    (old,) = alone.old_days(9)
    assert roll(alone, address).error is None
    (manifest,) = Store.open(address).manifests()
    alone.run("CREATE SCHEMA later", "ALTER TABLE events SET SCHEMA later")
    try:
        with alone.session() as conn:
            restore(conn, Store.open(address), manifest, ARCHIVED, alone.budget, schema="later")
        assert alone.run(f"SELECT count(*) FROM later.{old}") == [(10,)]
        assert alone.run("SELECT count(*) FROM later.events") == [(10,)]
    finally:
        alone.run("DROP SCHEMA later CASCADE")


@pytest.mark.parametrize("address", ["file"], indirect=True)
def test_an_empty_partition_and_a_missing_store(alone, address):
    """Archived as well; without a store partitions wait, attached, and the plan says it."""
    (old,) = alone.old_days(9, rows=0)
    waiting = alone.roll_over(ARCHIVED)
    assert waiting.error is None
    assert [it.kind for it in waiting.findings if it.wrong] == ["archive"]
    assert old in alone.partitions()
    assert roll(alone, address).error is None
    assert [it.content.rows for it in Store.open(address).manifests()] == [0]


class Faulty:
    """A store that does something else than it says."""

    def __init__(self, address, fault):
        self._store = Store.open(address)
        self._fault = fault

    def __getattr__(self, name):
        return getattr(self._store, name)

    def upload(self, path):
        if self._fault == "refuses":
            folder = Path(self._store.address.removeprefix("file://"))
            (folder / "full").write_text("no folder")
            path = f"full/{path}"
        return self._store.upload(path)

    def download(self, path):
        file = Path(self._store.address.removeprefix("file://")) / path
        data = bytearray(file.read_bytes())
        if self._fault == "truncates":
            file.write_bytes(data[:100])
        if self._fault == "changes":
            data[10] ^= 255
            file.write_bytes(data)
        if self._fault == "forgets":
            file.unlink()
        return self._store.download(path)


@pytest.mark.parametrize("address", ["file"], indirect=True)
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("refuses", "nothing was dropped"),
        ("truncates", "nothing is dropped"),
        ("changes", "nothing is dropped"),
        ("forgets", "is not in file://"),
    ],
)
def test_a_store_that_fails_or_lies(alone, address, fault, said):
    """Caught by reading back; the partition is still there, and the next run archives it."""
    (old,) = alone.old_days(9)
    with alone.session() as conn:
        archiver = Archiver(Faulty(address, fault))
        (report,) = roll_over(
            conn, {("public", "events"): ARCHIVED}, alone.budget, archiver=archiver
        )
    assert said in report.error
    assert alone.run(f"SELECT count(*) FROM {old}") == [(10,)]
    assert list(Store.open(address).manifests()) == []
    after = roll(alone, address)
    assert after.error is None
    assert [it.step.verb for it in after.outcomes] == ["archive", "drop"]


@pytest.mark.parametrize("address", ["file"], indirect=True)
def test_a_store_that_lies_about_the_manifest(alone, address, monkeypatch):
    """Read back as well: without it nothing is dropped, and the next run archives it."""
    (old,) = alone.old_days(9)
    with monkeypatch.context() as patch:
        put = obstore.put
        patch.setattr(
            obstore, "put", lambda store, path, data, **more: put(store, path, data[:99], **more)
        )
        assert "is no manifest" in roll(alone, address).error
    assert alone.run(f"SELECT count(*) FROM {old}") == [(10,)]
    (broken,) = Path(address.removeprefix("file://")).rglob("*.json")
    broken.unlink()
    assert roll(alone, address).error is None


@pytest.mark.parametrize("address", ["file"], indirect=True)
def test_a_manifest_that_is_lost_before_the_drop(alone, address):
    """Nothing is dropped; the partition forgets it, and is archived anew."""
    (old,) = alone.old_days(9)

    class Interrupted(Archiver):
        def check(self, *_):
            raise RolloverFailed("the run ends here")

    with alone.session() as conn:
        archiver = Interrupted(Store.open(address))
        roll_over(conn, {("public", "events"): ARCHIVED}, alone.budget, archiver=archiver)
    (manifest,) = Path(address.removeprefix("file://")).rglob("*.json")
    manifest.unlink()
    assert "is gone: nothing is dropped" in roll(alone, address).error
    assert alone.run(f"SELECT count(*) FROM {old}") == [(10,)]
    after = roll(alone, address)
    assert (after.error, [it.step.verb for it in after.outcomes]) == (None, ["archive", "drop"])


@pytest.fixture
def through(address, monkeypatch):
    """The network between the archiver and an S3 server."""
    with proxied(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2])) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        yield proxy


@pytest.mark.slow
@pytest.mark.parametrize("address", ["rclone"], indirect=True)
def test_a_slow_store(alone, address, through):
    """It is waited for as long as it goes on; every table has its next partition before."""
    alone.run("CREATE TABLE other (LIKE events) PARTITION BY RANGE (at)")
    (old,) = alone.old_days(9, rows=2000)
    alone.run(
        f"UPDATE {old} SET body = (SELECT string_agg(md5(id::text || n), '')"
        " FROM generate_series(1, 20) AS n)"
    )
    events, other = ("public", "events"), ("public", "other")
    through.pause, through.pause_back, done = 0.02, 0.1, []
    with alone.session() as conn:
        began = time.monotonic()
        reports = roll_over(
            conn,
            {events: ARCHIVED, other: daily()},
            alone.budget,
            archiver=Archiver(Store.open(address, patience=0.9)),
            progress=lambda target: done.append((target, time.monotonic() - began)),
        )
    assert [it.error for it in reports] == [None, None]
    assert [it.ahead for it in reports] == [3, 3]
    assert [target for target, _ in done] == [other, events]
    assert done[1][1] > 1.5 > done[0][1]
    assert max(it.stall_ms for it in reports) < 500


@pytest.mark.parametrize("address", ["rclone"], indirect=True)
def test_a_store_that_is_silent(alone, address, through):
    """Given up, by name; nothing is dropped, and the next run goes on."""
    (old,) = alone.old_days(9)
    through.pause = 600
    with alone.session() as conn:
        archiver = Archiver(Store.open(address, patience=0.2))
        (report,) = roll_over(
            conn, {("public", "events"): ARCHIVED}, alone.budget, archiver=archiver
        )
    assert "nothing was dropped" in report.error
    assert alone.run(f"SELECT count(*) FROM {old}") == [(10,)]
    through.pause = 0
    assert roll(alone, address).error is None


@pytest.mark.parametrize(
    ("address", "change"),
    [
        ("rclone", {"AWS_SECRET_ACCESS_KEY": "hunter2"}),
        ("rclone", {"AWS_ACCESS_KEY_ID": "stranger"}),
        ("rclone", {"bucket": "elsewhere"}),
        ("moto", {"bucket": "elsewhere"}),
    ],
    indirect=["address"],
)
def test_a_bucket_that_is_forbidden_or_not_there(alone, address, change, monkeypatch):
    """A signature that is refused, a bucket that nobody made: said by name, without the secret."""
    (old,) = alone.old_days(9)
    bucket = change.pop("bucket", "archive")
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    report = roll(alone, address.replace("//archive/", f"//{bucket}/"))
    assert "nothing was dropped" in report.error
    assert f"s3://{bucket}/" in report.error
    assert "hunter2" not in report.error
    assert alone.run(f"SELECT count(*) FROM {old}") == [(10,)]
    monkeypatch.undo()


@pytest.mark.parametrize("address", ["file"], indirect=True)
def test_a_partition_that_changed_after_its_archive_is_not_dropped(alone, address):
    """Compared once more, in the drop's own transaction."""
    (old,) = alone.old_days(9)

    class Late(Archiver):
        def check(self, conn, path, place):
            conn.execute(
                f"INSERT INTO public.{old} SELECT 99, at, 'late' FROM public.{old} LIMIT 1"
            )
            super().check(conn, path, place)

    with alone.session() as conn:
        (report,) = roll_over(
            conn,
            {("public", "events"): ARCHIVED},
            alone.budget,
            archiver=Late(Store.open(address)),
        )
    assert "the server finds 11" in report.error
    assert alone.run(f"SELECT count(*) FROM {old}") == [(10,)]


@pytest.mark.parametrize("address", ["moto"], indirect=True)
def test_two_databases_in_one_prefix(alone, address):
    """A manifest is never overwritten by another partition's."""
    (old,) = alone.old_days(9)
    assert roll(alone, address).error is None
    store = Store.open(address)
    (manifest,) = store.manifests()
    store.put_manifest(manifest)
    other = Manifest.read(manifest.text().replace('"rows": 10', '"rows": 11'), "here")
    with pytest.raises(ArchiveMismatch, match="a prefix of its own"):
        store.put_manifest(other)
    alone.old_days(9, rows=3)
    assert "the server finds 3" in roll(alone, address).error
    assert alone.run(f"SELECT count(*) FROM {old}") == [(3,)]


@pytest.mark.parametrize("address", ["rclone"], indirect=True)
def test_the_commands(alone, address):
    """List, verify, restore; a file that was changed is found."""
    alone.old_days(9)
    at = ("--archive", address)
    with psycopg.connect(alone.conninfo, autocommit=True) as conn:
        set_policy(conn, "public.events", ARCHIVED)
    done = CliRunner().invoke(app, ["rollover", "--dsn", alone.conninfo, *at])
    assert done.exit_code == 0, done.output
    (row,) = json.loads(CliRunner().invoke(app, ["archive", "list", *at, "--json"]).stdout)
    assert row["rows"] == 10
    assert CliRunner().invoke(app, ["archive", "verify", *at]).exit_code == 0
    back = ["archive", "restore", row["manifest"], "--dsn", alone.conninfo, *at]
    restored = CliRunner().invoke(app, back)
    assert restored.exit_code == 0, restored.exception
    assert alone.run("SELECT count(*) FROM events") == [(10,)]
    again = CliRunner().invoke(app, back)
    assert isinstance(again.exception, AlreadyExists)
    with Store.open(address).upload(row["manifest"].replace(".json", ".parquet")) as upload:
        upload.write(b"PAR1 of something else")
    broken = CliRunner().invoke(app, ["archive", "verify", *at, "--json"])
    assert broken.exit_code == 1
    assert "another digest" in json.loads(broken.stdout)[0]["problem"]


@pytest.mark.slow
@pytest.mark.parametrize("address", ["rclone", "moto"], indirect=True)
def test_a_file_of_several_parts(alone, address):
    """Larger than one part of an upload: put together by the server, and whole."""
    start = alone.today()
    (old,) = alone.old_days(9, rows=0)
    alone.run(
        f"INSERT INTO events SELECT it, '{start}'::timestamptz - interval '9 days', "
        "(SELECT string_agg(md5(it::text || n), '') FROM generate_series(1, 30) AS n) "
        "FROM generate_series(1, 40000) AS it"
    )
    assert roll(alone, address).error is None
    (manifest,) = Store.open(address).manifests()
    assert manifest.size > 2 * 8 * 1024 * 1024
    assert manifest.content.rows == 40_000
    assert old not in alone.partitions()


@pytest.mark.parametrize(
    "address", ["ftp://host/x", "s3://key:secret@bucket/x", "archive", "https://host/x"]
)
def test_addresses_that_cannot_be(address):
    """Refused; a secret is not repeated."""
    with pytest.raises(InvalidConfig, match="file:///folder or s3://") as refused:
        Store.open(address)
    assert "secret@" not in str(refused.value)


@pytest.mark.slow
def test_a_store_that_is_away(alone, monkeypatch):
    """Said by name; nothing is dropped."""
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "AWS_REGION": "x",
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RolloverFailed, match="nothing was dropped") as failed:
        list(Store.open("s3://archive/x").manifests())
    assert "hunter2" not in str(failed.value)
