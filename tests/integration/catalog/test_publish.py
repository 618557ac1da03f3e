"""What shards answer people about the hash space follows the catalog."""

from __future__ import annotations

import json
from uuid import uuid4

import psycopg
import pytest

from tenantry.catalog_writes import pin_tenant
from tenantry.drive import drive
from tenantry_ops.cluster import read_places
from tenantry_ops.doctor import examine, gather_facts
from tenantry_ops.publish import Published, publish_map
from tenantry_schema.errors import ShardUnavailable

ASK = "SELECT tenantry.bucket_of(%s::uuid), tenantry.bucket_of(%s::uuid)"
WRITTEN = "SELECT tenant_key, xmin::text FROM tenantry.pins"


def answers(fleet, *keys):
    """What each shard says of two keys."""
    found = []
    for conninfo in fleet.conninfos:
        with psycopg.connect(conninfo) as conn:
            found.append(conn.execute(ASK, keys).fetchone())
    return found


def behind(fleet):
    """What the doctor says of shards that answer wrongly."""
    findings = examine(gather_facts(fleet.catalog))
    return {it.object: it.next for it in findings if "bucket_of" in it.problem}


@pytest.fixture
def pinned(ready):
    """A tenant of a fleet of two shards that was pinned, and one that stayed in its range."""
    key = uuid4()
    with psycopg.connect(ready.catalog) as conn:
        conn.execute("SET ROLE tenantry_owner")
        drive(conn, pin_tenant(key, 2, version=1))
    return key, uuid4()


def test_a_pinned_tenant_is_answered_with_its_bucket(ready, pinned):
    """On both shards once it was published; until then the doctor names both, and what to run."""
    mend = "run `tenantry map publish`"
    assert behind(ready) == {"pins on s1": mend, "pins on s2": mend}
    assert publish_map(ready.catalog) == [Published("s1", 0, 1), Published("s2", 0, 1)]
    held = read_places(ready.catalog).map
    assert held.of_tenant(pinned[0]).bucket == 2
    assert answers(ready, *pinned) == [tuple(held.of_tenant(key).bucket for key in pinned)] * 2
    assert behind(ready) == {}


def test_publishing_again_writes_nothing(ready, pinned):
    """Rows that are right are left as they are."""
    publish_map(ready.catalog)
    with psycopg.connect(ready.conninfos[0], autocommit=True) as conn:
        before = conn.execute(WRITTEN).fetchall()
        assert publish_map(ready.catalog) == [Published("s1", 0, 0), Published("s2", 0, 0)]
        assert conn.execute(WRITTEN).fetchall() == before != []


def test_what_the_catalog_has_no_more_is_taken_out(ready, pinned):
    """A pin that was taken back, and ranges that were cut otherwise."""
    publish_map(ready.catalog)
    with psycopg.connect(ready.catalog) as conn:
        conn.execute("SET ROLE tenantry_owner")
        conn.execute("DELETE FROM tenantry.pins")
        for number, positions in ((0, "[0,7)"), (1, "[7,4294967296)")):
            change = "UPDATE tenantry.buckets SET positions = %s WHERE number = %s"
            conn.execute(change, (positions, number))
    assert set(behind(ready)) == {
        f"{what} on s{it}" for what in ("pins", "ranges") for it in (1, 2)
    }
    assert publish_map(ready.catalog) == [Published("s1", 4, 1), Published("s2", 4, 1)]
    assert behind(ready) == {}
    assert answers(ready, *pinned) == [(1, 1), (1, 1)]


def test_a_shard_that_is_away_is_named_and_the_others_are_told(ready, pinned):
    """The command is run again when it is back."""
    move = "UPDATE tenantry.nodes SET port = %s WHERE shard_id = 1"
    (port,) = (it.port for it in ready.shards[0].nodes)
    with psycopg.connect(ready.catalog, autocommit=True) as conn:
        conn.execute("SET ROLE tenantry_owner")
        conn.execute(move, (1,))
        with pytest.raises(
            ShardUnavailable, match=r"(?s)shard 's1' .*`tenantry map publish` again"
        ):
            publish_map(ready.catalog)
        conn.execute(move, (port,))
    assert set(behind(ready)) == {"pins on s1"}
    publish_map(ready.catalog)
    assert behind(ready) == {}


def test_the_command_says_what_it_changed(ready, pinned, tenantry):
    """One row for each shard."""
    ended = tenantry("map", "publish", "--json", "--catalog", ready.catalog)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == [
        {"shard": name, "ranges": 0, "pins": 1} for name in ("s1", "s2")
    ]
