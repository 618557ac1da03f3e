"""Empty databases on the session's servers, for a fleet of their own."""

from __future__ import annotations

import itertools
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql

from tenantry.map import Node, Shard
from tenantry_ops.initialise import InitPlan
from tenantry_schema.naming import OPERATOR, OWNER
from tenantry_schema.roles import database_statements

_numbers = itertools.count()


@dataclass(frozen=True)
class Blank:
    """A catalog's database and one database on each of two servers."""

    catalog: str
    shards: tuple[Shard, ...]
    conninfos: tuple[str, ...]

    def plan(self, buckets=8, **changed):
        return InitPlan(
            **{"catalog": self.catalog, "shards": self.shards, **changed}, buckets=buckets
        )


@pytest.fixture
def blank(fleet):
    with ExitStack() as stack:
        yield make_blank(fleet, stack)


def make_blank(fleet, stack):
    first, second = (shard.primary for shard in fleet.shards)
    number = next(_numbers)
    names = [f"init_{number}_{it}" for it in ("catalog", "one", "two")]
    servers = (first, first, second)
    for server, name in zip(servers, names, strict=True):
        stack.enter_context(_database(fleet, server, name))
    shards = tuple(
        Shard(id_, f"s{id_}", (Node(f"s{id_}-a", server.host, server.port, name),))
        for id_, (server, name) in enumerate(zip(servers[1:], names[1:], strict=True), start=1)
    )
    conninfos = [
        fleet.conninfo(server, user=OPERATOR, dbname=name)
        for server, name in zip(servers, names, strict=True)
    ]
    return Blank(conninfos[0], shards, tuple(conninfos[1:]))


@contextmanager
def _database(fleet, server, name):
    with psycopg.connect(fleet.superuser_conninfo(server), autocommit=True) as conn:
        target = sql.Identifier(name)
        conn.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(target, sql.Identifier(OWNER)))
        for statement in database_statements(name):
            conn.execute(statement)
        yield
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(target))
