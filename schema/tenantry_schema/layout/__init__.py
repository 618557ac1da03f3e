"""How a MetaData is laid out on a shard: parents, buckets, policies, grants (design, section 3)."""

from __future__ import annotations

from tenantry_schema.layout.bucket import bucket_statements, table_statements
from tenantry_schema.layout.rules import Layout, TableKind, TableRule
from tenantry_schema.layout.shard import policy_table, read_grants, shard_statements

__all__ = [
    "Layout",
    "TableKind",
    "TableRule",
    "bucket_statements",
    "policy_table",
    "read_grants",
    "shard_statements",
    "table_statements",
]
