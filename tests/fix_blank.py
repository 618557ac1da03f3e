"""Databases of their own on the session's servers: empty, or copies of a finished fleet's.

A fleet has as many shards as a test wants; they are dealt to the two servers.
"""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psycopg
import pytest
from fix_fleet import new_database
from psycopg.conninfo import make_conninfo

from tenantry.map import Node, Shard
from tenantry_ops.initialise import InitPlan, initialise
from tenantry_schema.naming import APP, OPERATOR

if TYPE_CHECKING:
    from tenantry_ops.bouncer.embedded import Embedded

_numbers = itertools.count()


@dataclass(frozen=True)
class Blank:
    """A catalog's database and one database for each shard, on two servers.

    :ivar pooler: what every router goes through, if there is such a thing
    """

    catalog: str
    shards: tuple[Shard, ...]
    conninfos: tuple[str, ...]
    names: tuple[str, ...]
    pooler: Embedded | None = None

    @property
    def app(self):
        """The catalog as the application reaches it."""
        return make_conninfo(self.catalog, user=APP)

    def plan(self, buckets=8, **changed):
        return InitPlan(
            **{"catalog": self.catalog, "shards": self.shards, **changed}, buckets=buckets
        )


@pytest.fixture
def blank(fleet):
    """Three empty databases."""
    with ExitStack() as stack:
        yield make_blank(fleet, stack)


@pytest.fixture(scope="session")
def finished(fleet):
    """A fleet of two buckets that nobody touches: what `ready` is copied from."""
    with ExitStack() as stack:
        made = make_blank(fleet, stack)
        initialise(made.plan(2))
        yield made


@pytest.fixture
def ready(fleet, finished):
    """A fleet of two buckets, for this test alone."""
    with ExitStack() as stack:
        yield make_copy(fleet, stack, finished)


@pytest.fixture
def routable(ready, laid_out, in_front):
    """The same, for a test that routes: through a PgBouncer where every router goes through one."""
    with in_front(laid_out, ready.catalog) as pooler:
        yield replace(ready, pooler=pooler)


def make_blank(fleet, stack, *, shards=2, templates=None):
    servers = [it.primary for it in fleet.shards]
    homes = [servers[0], *(servers[it % len(servers)] for it in range(shards))]
    number = next(_numbers)
    names = tuple(f"init_{number}_{it}" for it in ("catalog", *range(1, shards + 1)))
    for server, name, template in zip(
        homes, names, templates or ("template1",) * len(names), strict=True
    ):
        stack.enter_context(new_database(fleet, server, name, template))
    described = tuple(
        Shard(id_, f"s{id_}", (Node(f"s{id_}-a", server.host, server.port, name),))
        for id_, (server, name) in enumerate(zip(homes[1:], names[1:], strict=True), start=1)
    )
    conninfos = [
        fleet.conninfo(server, user=OPERATOR, dbname=name)
        for server, name in zip(homes, names, strict=True)
    ]
    return Blank(conninfos[0], described, tuple(conninfos[1:]), names)


def make_copy(fleet, stack, of):
    """Copy a finished fleet; its catalog is told where its shards are now."""
    made = make_blank(fleet, stack, shards=len(of.shards), templates=of.names)
    with psycopg.connect(made.catalog) as conn:
        conn.execute("SET ROLE tenantry_owner")
        for before, after in zip(of.names, made.names, strict=True):
            conn.execute("UPDATE tenantry.nodes SET dbname = %s WHERE dbname = %s", (after, before))
    return made
