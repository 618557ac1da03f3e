"""The routed calls that a service makes: every door, by tenant and by agent id.

Each write is one row, and carries its operation key in a column that people can read.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from sqlalchemy import select

from tenantry import Query, mint_agent_id
from tenantry_loadtest.workload import Kind
from tenantry_schema.errors import TenantryError
from tenantry_schema.models import Agent, Task

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from tenantry import Router, Work
    from tenantry_loadtest.history import Seat

#: The name of every tenant's first agent.
FIRST_AGENT = "first"

#: The tables that are written to, children first, and the column that holds the operation key.
KEYED = {"logs": "message", "tasks": "idempotency_key", "agents": "name"}

_TASK = """
INSERT INTO tasks (tenant_id, id, agent_id, kind, idempotency_key) VALUES (%s, %s, %s, 'load', %s)
"""
_HAS_TASK = "SELECT true FROM tasks WHERE tenant_id = %s AND id = %s"
_LOG = "INSERT INTO logs (tenant_id, id, agent_id, message) VALUES (%s, %s, %s, %s)"


def enqueue(router: Router, seat: Seat, key: str) -> None:
    """Insert a task by a work, which the router tries again when it was certainly rolled back."""

    def work() -> Work[None]:
        yield Query(_TASK, (seat.key, task_id(seat, key), seat.agent, key))

    router.run(work, tenant=seat.key)


def append_log(router: Router, seat: Seat, key: str) -> None:
    """Insert a line of an agent's log, found by the agent's id alone."""
    with router.connection(agent=seat.agent) as conn:
        conn.execute(_LOG, (seat.key, uuid.uuid4(), seat.agent, key))


def register(router: Router, seat: Seat, key: str) -> None:
    """Insert an agent by the ORM."""
    with router.session(tenant=seat.key) as session:
        session.add(Agent(tenant_id=seat.key, id=mint_agent_id(seat.key), name=key))


def has_task(router: Router, seat: Seat, key: str) -> bool:
    """Say whether a task is there."""
    with router.connection(tenant=seat.key) as conn:
        return conn.execute(_HAS_TASK, (seat.key, task_id(seat, key))).fetchone() is not None


def list_ready(router: Router, seat: Seat, _key: str) -> bool:
    """Read the tasks that a worker would take next."""
    ready = (
        select(Task.id)
        .where(Task.tenant_id == seat.key, Task.state == "ready", Task.queue == "default")
        .order_by(Task.priority.desc(), Task.run_after)
        .limit(20)
    )
    with router.session(tenant=seat.key) as session:
        return bool(session.scalars(ready).all())


def find_agent(router: Router, seat: Seat, _key: str) -> bool:
    """Read an agent by its id alone.

    :raises TenantryError: when another one was found
    """
    wanted = select(Agent.name).where(Agent.tenant_id == seat.key, Agent.id == seat.agent)
    with router.session(agent=seat.agent) as session:
        name = session.scalar(wanted)
    if name != FIRST_AGENT:
        raise TenantryError(f"agent {seat.agent} was read as {name!r}, not {FIRST_AGENT!r}")
    return True


def task_id(seat: Seat, key: str) -> UUID:
    """Return the id of a task: it follows from the key, so that a reader needs no other."""
    return uuid.uuid5(seat.key, key)


#: Kind -> the table that it writes to, and how.
WRITES: dict[Kind, tuple[str, Callable[[Router, Seat, str], None]]] = {
    Kind.ENQUEUE: ("tasks", enqueue),
    Kind.LOG: ("logs", append_log),
    Kind.REGISTER: ("agents", register),
}

#: Kind -> how it is read; the answer says whether something was found.
READS: dict[Kind, Callable[[Router, Seat, str], bool]] = {
    Kind.READ: has_task,
    Kind.LIST: list_ready,
    Kind.FIND: find_agent,
}
