"""Tenants of a new fleet: completed when they were begun, also where the tables are a service's."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from tenantry.catalog_writes import register_tenant
from tenantry.drive import drive
from tenantry_ops.cluster import read_places
from tenantry_ops.initialise import initialise
from tenantry_ops.tenants import create, page, where
from tenantry_schema.errors import AlreadyExists, InvalidKey, ShardUnavailable, UnknownTenant

SERVICE = """
from sqlalchemy import BigInteger, Column, ForeignKeyConstraint, MetaData, Table, Text

strict = MetaData()
Table("tenants", strict, Column("tenant_id", BigInteger, primary_key=True),
      Column("name", Text), Column("plan", Text, nullable=False))
without = MetaData()
Table("notes", without, Column("tenant_id", Text, primary_key=True),
      Column("id", BigInteger, primary_key=True))
"""


@pytest.fixture
def service(tmp_path, monkeypatch):
    """A service's module, importable here and so in the processes that migrate."""
    (tmp_path / "service_of_test.py").write_text(SERVICE)
    monkeypatch.syspath_prepend(tmp_path)
    return "service_of_test"


def in_bucket(catalog, made):
    """Return the tenant's rows in its bucket."""
    places = read_places(catalog)
    home = next(it for it in places.shards if it.name == made["shard"])
    with psycopg.connect(home.conninfo) as conn:
        statement = sql.SQL("SELECT tenant_id::text, name FROM {}.tenants").format(
            sql.Identifier(made["schema"])
        )
        return conn.execute(statement).fetchall()


def test_a_tenant_that_was_begun_is_completed(ready):
    """Killed between catalog and bucket: the same command again finishes it, whenever it comes."""
    key = uuid4()
    with psycopg.connect(ready.catalog) as conn:
        drive(conn, register_tenant(key, "acme"))
    made = create(ready.catalog, "acme")
    assert made["tenant"] == str(key)
    assert in_bucket(ready.catalog, made) == [(str(key), "acme")]
    assert create(ready.catalog, "acme", str(key)) == made == where(ready.catalog, str(key))
    assert in_bucket(ready.catalog, made) == [(str(key), "acme")]
    for name, other in (("acme", str(uuid4())), ("other", str(key))):
        with pytest.raises(AlreadyExists, match="exists already"):
            create(ready.catalog, name, other)
    with pytest.raises(UnknownTenant):
        where(ready.catalog, "other")


def test_a_shard_that_is_away_is_named(ready):
    """The tenant is in the catalog; once the shard is back, the command completes it."""
    with psycopg.connect(ready.catalog, autocommit=True) as conn:
        conn.execute("SET ROLE tenantry_owner")
        conn.execute("UPDATE tenantry.nodes SET host = '127.0.0.1', port = 1")
        said = r"(?s)'s[12]' does not answer.*create acme` again"
        with pytest.raises(ShardUnavailable, match=said):
            create(ready.catalog, "acme")
        for node in (it for shard in ready.shards for it in shard.nodes):
            where_it_is = (node.host, node.port, node.dbname)
            conn.execute(
                "UPDATE tenantry.nodes SET host = %s, port = %s WHERE dbname = %s", where_it_is
            )
    made = create(ready.catalog, "acme")
    assert in_bucket(ready.catalog, made) == [(made["tenant"], "acme")]


def test_pages_of_tenants(ready):
    """By name, behind the last one seen; every tenant once."""
    names = [f"t-{number}" for number in range(5)]
    for name in reversed(names):
        create(ready.catalog, name)
    seen = []
    while rows := page(ready.catalog, after=seen[-1] if seen else "", limit=2):
        seen += [row["name"] for row in rows]
    assert seen == names


@pytest.mark.slow
def test_tables_of_a_service_get_no_row_of_ours(blank, service):
    """A table ``tenants`` that wants more is left to the service; the directory has the tenant."""
    initialise(blank.plan(2, models=f"{service}:strict"))
    with pytest.raises(InvalidKey, match="bigint: give the key"):
        create(blank.catalog, "acme")
    with pytest.raises(InvalidKey, match="is none"):
        create(blank.catalog, "acme", "12a")
    made = create(blank.catalog, "acme", "-12")
    assert (made["tenant"], in_bucket(blank.catalog, made)) == ("-12", [])


@pytest.mark.slow
def test_a_service_without_a_table_of_tenants(blank, service):
    """Text keys, and only the catalog knows the tenant."""
    initialise(blank.plan(2, models=f"{service}:without"))
    made = create(blank.catalog, "acme", "Größe 'x'")
    assert made == where(blank.catalog, "acme")
    assert made["tenant"] == "Größe 'x'"
