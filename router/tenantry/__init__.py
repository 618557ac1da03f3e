"""Route a multi-tenant service's work over ordinary Postgres.

The doors, and what is stored through them, bring SQLAlchemy and the settings' validation with them,
which takes half a second: they are imported when they are first named, so that a program which only
reads the map does not wait.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tenantry.errors import (
    AlreadyDone,
    BucketMoved,
    CatalogUnavailable,
    DeadlineExceeded,
    InvalidGraph,
    InvalidInput,
    InvalidKey,
    InvalidSchedule,
    InvalidToken,
    KeysConflict,
    LeaseLost,
    OutcomeUnknown,
    PartialResult,
    PoolExhausted,
    ReadInterrupted,
    RouterClosed,
    ShardUnavailable,
    SplitBrain,
    StaleActor,
    TenantryError,
    TokenLost,
    TooStale,
    UnknownActor,
    UnknownAgent,
    UnknownSchedule,
    UnknownTask,
    UnknownTenant,
    UnsupportedRead,
    VersionChanged,
)
from tenantry.ids import mint_agent_id
from tenantry.outcome import Outcome
from tenantry.reads import AtLeast, Fresh, Stale
from tenantry.receipt import Receipt
from tenantry.tokens import Token
from tenantry_schema.query import Query, Work

if TYPE_CHECKING:
    from tenantry import actors, agents, history, schedules, tasks
    from tenantry.aio import AsyncRouter
    from tenantry.router import Router
    from tenantry.work import AsyncWorker, Effects, Job, Worker

__all__ = [
    "AlreadyDone",
    "AsyncRouter",
    "AsyncWorker",
    "AtLeast",
    "BucketMoved",
    "CatalogUnavailable",
    "DeadlineExceeded",
    "Effects",
    "Fresh",
    "InvalidGraph",
    "InvalidInput",
    "InvalidKey",
    "InvalidSchedule",
    "InvalidToken",
    "Job",
    "KeysConflict",
    "LeaseLost",
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
    "StaleActor",
    "TenantryError",
    "Token",
    "TokenLost",
    "TooStale",
    "UnknownActor",
    "UnknownAgent",
    "UnknownSchedule",
    "UnknownTask",
    "UnknownTenant",
    "UnsupportedRead",
    "VersionChanged",
    "Work",
    "Worker",
    "actors",
    "agents",
    "history",
    "mint_agent_id",
    "schedules",
    "tasks",
]

_MODULES = frozenset({"actors", "agents", "history", "schedules", "tasks"})
_NAMES = {
    "AsyncRouter": "tenantry.aio",
    "AsyncWorker": "tenantry.work",
    "Effects": "tenantry.work",
    "Job": "tenantry.work",
    "Router": "tenantry.router",
    "Worker": "tenantry.work",
}


def __getattr__(name: str) -> Any:
    """Import what is named for the first time."""
    if name in _MODULES:
        return import_module(f"tenantry.{name}")
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_NAMES[name]), name)
    return found
