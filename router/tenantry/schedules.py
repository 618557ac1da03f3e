"""Schedules of a tenant: ``router.run(schedules.create(acme, …), tenant=acme)``."""

from __future__ import annotations

from tenantry_schema.store.schedules import (
    Fired,
    Schedule,
    create,
    fire_due,
    get,
    page,
    pause,
    remove,
    resume,
)

__all__ = [
    "Fired",
    "Schedule",
    "create",
    "fire_due",
    "get",
    "page",
    "pause",
    "remove",
    "resume",
]
