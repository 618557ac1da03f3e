"""What Postgres refuses, shown by really asking for it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg

from tenantry.prelude import tenant_prelude
from tenantry_schema.errors import TenantryError, UnknownTenant
from tenantry_schema.naming import APP

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from tenantry import Router
    from tenantry.map import Placement
    from tenantry_ops.demo.work import DemoTenant
    from tenantry_ops.fleet import Fleet

_TASK = "INSERT INTO tasks (tenant_id, id, kind) VALUES (%s, %s, 'stray')"


def show_refusals(router: Router, fleet: Fleet, tenants: list[DemoTenant]) -> list[dict[str, str]]:
    """Ask for what must be refused; return what was asked and what Postgres said.

    :raises TenantryError: when something was not refused
    """
    mine, other = _neighbours(router, tenants)
    home = router.where(tenant=mine)
    placements = list(router.map.placements())
    elsewhere = next(it for it in placements if it.shard == home.shard and it != home)
    foreign_shard = next(it.shard for it in placements if it.shard != home.shard)
    nobody = uuid4()
    return [
        _refused(
            "write a task into another bucket of the tenant's shard",
            lambda: _stray(router, fleet, home.shard, elsewhere, mine),
            psycopg.errors.ForeignKeyViolation,
        ),
        _refused(
            "write to the tenant's bucket on a shard that does not serve it",
            lambda: _stray(router, fleet, foreign_shard, home, mine),
            psycopg.errors.UndefinedTable,
        ),
        _refused(
            "write a task for another tenant of the same bucket",
            lambda: _write(router, mine, other),
            psycopg.errors.InsufficientPrivilege,
        ),
        _refused(
            "write a task for a tenant that does not exist",
            lambda: _write(router, nobody, nobody),
            UnknownTenant,
        ),
        _refused(
            "read all tenants' tasks through the parent",
            lambda: _read_parent(router, mine),
            psycopg.errors.InsufficientPrivilege,
        ),
        _nothing_foreign(router, mine, other),
    ]


def _neighbours(router: Router, tenants: list[DemoTenant]) -> tuple[UUID, UUID]:
    """Return two tenants of one bucket: only there is row-level security all that parts them."""
    homes: dict[int, UUID] = {}
    for tenant in tenants:
        bucket = router.where(tenant=tenant.key).bucket
        if bucket in homes:
            return homes[bucket], tenant.key
        homes[bucket] = tenant.key
    raise TenantryError("no two tenants of the demo share a bucket: give it more tenants")


def _refused(asked: str, ask: Callable[[], None], expected: type[Exception]) -> dict[str, str]:
    try:
        ask()
    except expected as error:
        said = str(error.__cause__ or error).splitlines()[0]
        return {"asked": asked, "answer": f"{expected.__name__}: {said}"}
    raise TenantryError(f"it was possible to {asked}: expected {expected.__name__}")


def _stray(router: Router, fleet: Fleet, shard: int, bucket: Placement, tenant: UUID) -> None:
    server = next(it for it in fleet.shards if it.name == router.map.shards[shard].name).primary
    with psycopg.connect(fleet.conninfo(server, user=APP), autocommit=True) as conn:
        conn.execute(tenant_prelude(bucket.schema, str(tenant)).message)
        conn.execute(_TASK, (tenant, uuid4()))


def _write(router: Router, tenant: UUID, owner: UUID) -> None:
    with router.connection(tenant=tenant) as conn:
        conn.execute(_TASK, (owner, uuid4()))


def _read_parent(router: Router, tenant: UUID) -> None:
    with router.connection(tenant=tenant) as conn:
        conn.execute("SELECT count(*) FROM fleet.tasks")


def _nothing_foreign(router: Router, tenant: UUID, other: UUID) -> dict[str, str]:
    asked = "read the tasks of another tenant of the same bucket"
    there = _count(router, other, other)
    seen = _count(router, tenant, other)
    if seen or not there:
        raise TenantryError(f"{asked}: {seen} of {there} rows were seen, expected none of some")
    return {"asked": asked, "answer": f"0 of {there} rows"}


def _count(router: Router, tenant: UUID, owner: UUID) -> int:
    with router.connection(tenant=tenant) as conn:
        row = conn.execute("SELECT count(*) FROM tasks WHERE tenant_id = %s", (owner,)).fetchone()
    return 0 if row is None else int(row[0])
