"""The shipped schema: the state of an agent platform (design, section 6)."""

from __future__ import annotations

from tenantry_schema.models.actors import Actor
from tenantry_schema.models.base import Base
from tenantry_schema.models.history import Log, Transition
from tenantry_schema.models.schedules import Schedule
from tenantry_schema.models.tasks import Task, TaskEdge, TaskLimit
from tenantry_schema.models.tenants import Agent, Tenant

__all__ = [
    "Actor",
    "Agent",
    "Base",
    "Log",
    "Schedule",
    "Task",
    "TaskEdge",
    "TaskLimit",
    "Tenant",
    "Transition",
]
