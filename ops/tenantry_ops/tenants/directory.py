"""Create, list and find tenants through the catalog.

A tenant is entered in the catalog first and in its bucket second; a command that was killed between
the two is completed by running it again with the same name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
from psycopg import sql

from tenantry.catalog_writes import register_tenant
from tenantry.drive import drive
from tenantry.keys import KeyType, TenantKey, key_text, normalize, shown
from tenantry_ops.cluster import read_places
from tenantry_ops.locking import connect
from tenantry_schema.errors import InvalidKey, ShardUnavailable, UnknownTenant

if TYPE_CHECKING:
    from tenantry.map import Map, Placement
    from tenantry_ops.cluster import FleetPlaces

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")
_PAGE = """
SELECT name, tenant_key, created_at FROM tenantry.tenants
WHERE name > %s AND retired_at IS NULL ORDER BY name LIMIT %s
"""
_ONE = """
SELECT name, tenant_key, created_at FROM tenantry.tenants
WHERE name = %(given)s OR tenant_key = %(given)s
"""
_COLUMNS = ("name", "tenant", "created_at")
_ROW = "INSERT INTO {}.tenants (tenant_id, name) VALUES (%s, %s) ON CONFLICT DO NOTHING"


def create(catalog: str, name: str, key: str | None = None) -> dict[str, Any]:
    """Create a tenant, or complete one that was begun; return where it lives.

    :param key: the tenant's key as text, default a new UUID where the fleet's keys are UUIDs
    :raises InvalidKey: for a name or a key that cannot be
    :raises AlreadyExists: when name or key belong to another tenant
    """
    if not _NAME.match(name):
        raise InvalidKey(f"a tenant's name is 1 to 63 of a-z, 0-9, '-' and '_', not {shown(name)}")
    places = read_places(catalog)
    with connect(catalog) as conn, conn.transaction():
        found = conn.execute(_ONE, {"given": name}).fetchone()
        known = str(found[1]) if found is not None and key is None else key
        tenant = _key(known, places.map.key_type)
        drive(conn, register_tenant(tenant, name))
    placement = places.map.of_tenant(tenant)
    if _has_root(places.models):
        _enter(places, placement, tenant, name)
    return _where(places.map, name, tenant)


def page(catalog: str, *, after: str = "", limit: int = 100) -> list[dict[str, Any]]:
    """Return tenants by name, those behind ``after``.

    :raises InvalidKey: for a NUL character in ``after``
    """
    _check_no_nul(after)
    with connect(catalog) as conn:
        rows = conn.execute(_PAGE, (after, limit)).fetchall()
    return [dict(zip(_COLUMNS, row, strict=True)) for row in rows]


def show(catalog: str, given: str) -> dict[str, Any]:
    """Return a tenant by its name or key.

    :raises UnknownTenant: when the directory has none
    """
    _check_no_nul(given)
    with connect(catalog) as conn:
        row = conn.execute(_ONE, {"given": given}).fetchone()
    if row is None:
        raise UnknownTenant(f"no tenant {shown(given)}: see `tenantry tenants list`")
    return dict(zip(_COLUMNS, row, strict=True))


def where(catalog: str, given: str) -> dict[str, Any]:
    """Return where a tenant lives, by its name or key.

    :raises UnknownTenant: when the directory has none
    """
    found = show(catalog, given)
    held = read_places(catalog).map
    return _where(held, found["name"], _key(found["tenant"], held.key_type))


def _check_no_nul(name: str) -> None:
    if "\0" in name:
        raise InvalidKey("a tenant's name has no NUL character")


def _has_root(models: str | None) -> bool:
    """Say whether buckets have a table ``tenants`` that a key and a name are enough for."""
    from tenantry_ops.models import layout_of  # noqa: PLC0415  only a new tenant needs SQLAlchemy

    for rule in layout_of(models).bucketed:
        if rule.name == "tenants":
            columns = {it.name: it for it in rule.table.columns}
            others = [it for name, it in columns.items() if name not in {"tenant_id", "name"}]
            return "name" in columns and all(it.nullable or it.server_default for it in others)
    return False


def _enter(places: FleetPlaces, placement: Placement, tenant: TenantKey, name: str) -> None:
    statement = sql.SQL(_ROW).format(sql.Identifier(placement.schema))
    home = next((it for it in places.shards if it.id == placement.shard), None)
    again = f"run `tenantry tenants create {name}` again to complete it"
    if home is None:
        raise ShardUnavailable(f"shard {placement.shard} has no nodes in the catalog; then {again}")
    try:
        with psycopg.connect(home.conninfo) as conn:
            conn.execute(statement, (tenant, name))
    except psycopg.OperationalError as error:
        raise ShardUnavailable(
            f"the primary of shard {home.name!r} does not answer ({str(error).strip()}): the "
            f"tenant is in the catalog, but not in its bucket; {again}"
        ) from error


def _where(held: Map, name: str, tenant: TenantKey) -> dict[str, Any]:
    placement = held.of_tenant(tenant)
    return {
        "name": name,
        "tenant": key_text(tenant),
        "bucket": placement.bucket,
        "schema": placement.schema,
        "shard": held.shards[placement.shard].name,
    }


def _key(text: str | None, key_type: KeyType) -> TenantKey:
    if text is None:
        if key_type != KeyType.UUID:
            raise InvalidKey(f"tenants of this fleet are {key_type}: give the key with --key")
        return uuid4()
    if key_type == KeyType.BIGINT:
        try:
            return normalize(int(text), key_type)
        except ValueError:
            raise InvalidKey(f"tenants of this fleet are bigint: {shown(text)} is none") from None
    return normalize(text, key_type)
