from __future__ import annotations

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenantry.keys import hash32, position
from tenantry_ops.cluster import read_places
from tenantry_schema.naming import OPERATOR

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60)
INT8 = st.integers(-(2**63), 2**63 - 1)
RELAXED = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _ask(conn, function, kind, keys):
    return conn.execute(
        f"SELECT array_agg({function}(key) ORDER BY at) "
        f"FROM unnest(%s::{kind}[]) WITH ORDINALITY AS it (key, at)",
        (keys,),
    ).fetchone()[0]


@RELAXED
@given(
    uuids=st.lists(st.uuids(), min_size=1, max_size=200),
    ints=st.lists(INT8, min_size=1, max_size=200),
    texts=st.lists(TEXT, min_size=1, max_size=100),
)
def test_python_hashes_as_the_server_does(fleet, uuids, ints, texts):
    """All three key types, compared with the functions behind hash indexes."""
    with psycopg.connect(fleet.superuser_conninfo(fleet.shards[0].primary)) as conn:
        assert _ask(conn, "uuid_hash", "uuid", uuids) == [hash32(it) for it in uuids]
        assert _ask(conn, "hashint8", "bigint", ints) == [hash32(it) for it in ints]
        assert _ask(conn, "hashtext", "text", texts) == [hash32(it) for it in texts]


@pytest.mark.slow
@RELAXED
@given(
    uuids=st.lists(st.uuids(), min_size=1, max_size=40),
    ints=st.lists(INT8, min_size=1, max_size=40),
    texts=st.lists(TEXT, min_size=1, max_size=40),
)
def test_people_can_ask_a_shard(laid_out, router, uuids, ints, texts):
    """``tenantry.bucket_of`` on every shard, as the application, agrees with the map."""
    held = read_places(laid_out.catalog_conninfo(OPERATOR)).map
    assert [held.of_tenant(key).bucket for key in uuids] == [
        router.where(tenant=key).bucket for key in uuids
    ]
    for shard in laid_out.shards:
        with psycopg.connect(laid_out.conninfo(shard.primary, user="tenantry_app")) as conn:
            for kind, keys in (("uuid", uuids), ("bigint", ints), ("text", texts)):
                places = [position(key) for key in keys]
                assert _ask(conn, "tenantry.position_of", kind, keys) == places
                buckets = [held.at(place).bucket for place in places]
                assert _ask(conn, "tenantry.bucket_of", kind, keys) == buckets
