"""Route a multi-tenant service's work over ordinary Postgres."""

from __future__ import annotations

from tenantry.aio import AsyncRouter
from tenantry.errors import (
    BucketMoved,
    CatalogUnavailable,
    DeadlineExceeded,
    InvalidKey,
    OutcomeUnknown,
    PartialResult,
    PoolExhausted,
    RouterClosed,
    ShardUnavailable,
    TenantryError,
    UnknownAgent,
    UnknownTenant,
    UnsupportedRead,
)
from tenantry.ids import mint_agent_id
from tenantry.reads import Fresh
from tenantry.router import Router
from tenantry_schema.query import Query, Work

__all__ = [
    "AsyncRouter",
    "BucketMoved",
    "CatalogUnavailable",
    "DeadlineExceeded",
    "Fresh",
    "InvalidKey",
    "OutcomeUnknown",
    "PartialResult",
    "PoolExhausted",
    "Query",
    "Router",
    "RouterClosed",
    "ShardUnavailable",
    "TenantryError",
    "UnknownAgent",
    "UnknownTenant",
    "UnsupportedRead",
    "Work",
    "mint_agent_id",
]
