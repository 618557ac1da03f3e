"""The demo's routed work: write every tenant's graph, read it back by tenant and by agent id."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from tenantry import agents, mint_agent_id, tasks
from tenantry.keys import POSITIONS, position
from tenantry_ops.demo.process import KIND
from tenantry_schema.errors import TenantryError
from tenantry_schema.models import Agent, Task, TaskEdge

if TYPE_CHECKING:
    from uuid import UUID

    from tenantry import Router
    from tenantry_ops.demo.graph import Graph
    from tenantry_ops.timings import Timings

# Debian's graph took 30 s, ten thousand rows in each, with five processes for each core.
_ROWS_PER_SECOND = 2_000


@dataclass(frozen=True, slots=True)
class DemoTenant:
    """A tenant of the demo, and its agent."""

    name: str
    key: UUID
    agent: UUID


def mint_tenants(count: int, buckets: int) -> list[DemoTenant]:
    """Return tenants with newly minted keys and agents; the last shares a bucket with the first.

    :param buckets: into how many equal ranges the hash space is cut
    """

    def bucket(key: UUID) -> int:
        return position(key) * buckets // POSITIONS

    keys = [uuid.uuid4() for _ in range(count)]
    # Two tenants of one bucket are parted by row-level security alone, which is to be shown.
    while bucket(keys[-1]) != bucket(keys[0]):
        keys[-1] = uuid.uuid4()
    return [
        DemoTenant(f"tenant-{number:02d}", key, mint_agent_id(key))
        for number, key in enumerate(keys, start=1)
    ]


def write_graph(
    router: Router, tenant: DemoTenant, graph: Graph, timings: Timings
) -> list[tuple[UUID, UUID]]:
    """Write a tenant's agent and its whole graph; return the edges (task, what it needs)."""
    register = agents.register(tenant.key, name=f"{tenant.name}-agent", id=tenant.agent)
    with timings.of("register an agent"):
        router.run(register, tenant=tenant.key)
    ids = {name: task_id(tenant, name) for name in graph.names}
    nodes = [
        tasks.NewTask(KIND, {"package": name}, id=ids[name], agent=tenant.agent)
        for name in graph.names
    ]
    edges = [tasks.Edge(ids[name], ids[needed]) for name, needed in graph.edges]
    with timings.of(f"submit {len(nodes):,} tasks and {len(edges):,} edges"):
        submit = tasks.submit(tenant.key, nodes, edges)
        deadline = submission_deadline(graph, router.settings.deadline)
        router.run(submit, tenant=tenant.key, deadline=deadline)
    return [(edge.task, edge.needs) for edge in edges]


def submission_deadline(graph: Graph, usual: float) -> float:
    """Return the seconds that a whole graph may take in one transaction.

    :param usual: a call's, which a large graph exceeds on a machine that has much else to do
    """
    return usual + (len(graph.names) + len(graph.edges)) / _ROWS_PER_SECOND


def read_graph_back(
    router: Router, tenant: DemoTenant, graph: Graph, timings: Timings, samples: int = 25
) -> None:
    """Read a tenant's graph by tenant and by agent id, and compare it with what was written.

    :raises TenantryError: when a row is missing or differs
    """
    with timings.of("count by tenant (ORM)"), router.session(tenant=tenant.key) as session:
        tasks = session.scalar(
            select(func.count()).select_from(Task).where(Task.tenant_id == tenant.key)
        )
        edges = session.scalar(
            select(func.count()).select_from(TaskEdge).where(TaskEdge.tenant_id == tenant.key)
        )
    if (tasks, edges) != (len(graph.names), len(graph.edges)):
        raise TenantryError(f"{tenant.name}: {tasks} tasks and {edges} edges were read back")
    step = max(1, len(graph.names) // samples)
    for name in graph.names[::step]:
        with (
            timings.of("read a task by tenant (psycopg)"),
            router.connection(tenant=tenant.key) as conn,
        ):
            row = conn.execute(
                "SELECT payload ->> 'package' FROM tasks WHERE tenant_id = %s AND id = %s",
                (tenant.key, task_id(tenant, name)),
            ).fetchone()
        if row != (name,):
            raise TenantryError(f"{tenant.name}: task {name} was read back as {row}")
    for _ in range(5):
        with (
            timings.of("read an agent by its id (ORM)"),
            router.session(agent=tenant.agent) as session,
        ):
            found = session.scalar(
                select(Agent.name).where(Agent.tenant_id == tenant.key, Agent.id == tenant.agent)
            )
        if found != f"{tenant.name}-agent":
            raise TenantryError(f"{tenant.name}: agent {tenant.agent} was read back as {found}")


def task_id(tenant: DemoTenant, name: str) -> UUID:
    """Return the id of a tenant's task: the same in every process."""
    return uuid.uuid5(tenant.key, name)
