"""Route a multi-tenant service's work over ordinary Postgres."""

from __future__ import annotations

from tenantry.aio import AsyncRouter
from tenantry.errors import (
    AlreadyDone,
    BucketMoved,
    CatalogUnavailable,
    DeadlineExceeded,
    InvalidKey,
    InvalidToken,
    OutcomeUnknown,
    PartialResult,
    PoolExhausted,
    ReadInterrupted,
    RouterClosed,
    ShardUnavailable,
    SplitBrain,
    TenantryError,
    TokenLost,
    TooStale,
    UnknownAgent,
    UnknownTenant,
    UnsupportedRead,
)
from tenantry.ids import mint_agent_id
from tenantry.outcome import Outcome
from tenantry.reads import AtLeast, Fresh, Stale
from tenantry.receipt import Receipt
from tenantry.router import Router
from tenantry.tokens import Token
from tenantry_schema.query import Query, Work

__all__ = [
    "AlreadyDone",
    "AsyncRouter",
    "AtLeast",
    "BucketMoved",
    "CatalogUnavailable",
    "DeadlineExceeded",
    "Fresh",
    "InvalidKey",
    "InvalidToken",
    "Outcome",
    "OutcomeUnknown",
    "PartialResult",
    "PoolExhausted",
    "Query",
    "ReadInterrupted",
    "Receipt",
    "Router",
    "RouterClosed",
    "ShardUnavailable",
    "SplitBrain",
    "Stale",
    "TenantryError",
    "Token",
    "TokenLost",
    "TooStale",
    "UnknownAgent",
    "UnknownTenant",
    "UnsupportedRead",
    "Work",
    "mint_agent_id",
]
