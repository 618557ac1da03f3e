"""Names that the parts agree on: schemas, roles, settings, histories, buckets."""

from __future__ import annotations

import re
from enum import StrEnum

FLEET = "fleet"
SHARED = "shared"
ADMIN = "tenantry"

CATALOG_DATABASE = "tenantry_catalog"
SHARD_DATABASE = "tenantry"

OWNER = "tenantry_owner"
APP = "tenantry_app"
READ = "tenantry_read"
OPERATOR = "tenantry_operator"
#: What a worker becomes for the moment in which it asks which tenants have work; no one logs in.
WORKER = "tenantry_worker"
#: Who needs USAGE on a bucket's schema: to grant it is to serve the bucket.
SERVING = (APP, READ, WORKER)

TENANT_SETTING = "tenantry.tenant"
AGENT_SETTING = "tenantry.agent"

#: The channel on which the catalog tells of a new map version.
MAP_CHANNEL = "tenantry_map"

#: The table of every bucket that holds the keys of committed operations.
OPERATION_KEYS = "operation_keys"
#: The channel on which a shard tells whose tasks became ready: ``<tenant> <queue>``.
TASK_CHANNEL = "tenantry_tasks"

#: The column of the parents that says which bucket a row lives in.
BUCKET_COLUMN = "bucket"


class History(StrEnum):
    """Which database a history of migrations is for."""

    CATALOG = "catalog"
    SHARD = "shard"


_BUCKET = re.compile(r"bucket_(\d{4,10})(?:_g([1-9]\d*))?\Z")


def bucket_schema(number: int, generation: int = 1) -> str:
    """Return the name of a bucket's schema, such as ``bucket_0017`` or ``bucket_0017_g2``.

    :raises ValueError: for a negative number or a generation below 1
    """
    if number < 0 or generation < 1:
        raise ValueError(f"no bucket has number {number} and generation {generation}")
    name = f"bucket_{number:04d}"
    return name if generation == 1 else f"{name}_g{generation}"


def parse_bucket_schema(name: str) -> tuple[int, int] | None:
    """Return number and generation of a bucket's schema, or None for any other name."""
    found = _BUCKET.match(name)
    if found is None:
        return None
    number, generation = int(found[1]), int(found[2] or 1)
    return (number, generation) if bucket_schema(number, generation) == name else None


def slot_name(node: str) -> str:
    """Return the name of a node's replication slot: slots' names know no ``-``."""
    return node.replace("-", "_")
