"""The demo's routed work: write every tenant's graph, read it back by tenant and by agent id."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import func, select

from tenantry.ids import mint_agent_id
from tenantry.keys import POSITIONS, position
from tenantry_schema.errors import TenantryError
from tenantry_schema.models import Agent, Task, TaskEdge
from tenantry_schema.query import Query

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from tenantry import Router
    from tenantry_ops.demo.graph import Graph
    from tenantry_ops.timings import Timings
    from tenantry_schema.query import Work

T = TypeVar("T")

_BATCH = 500

_AGENT = "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, %s)"
# COPY is refused under row-level security; unnest is one round trip too.
_TASKS = """
INSERT INTO tasks (tenant_id, id, agent_id, kind, state, unmet)
SELECT %(tenant)s, id, %(agent)s, kind, CASE WHEN unmet = 0 THEN 'ready' ELSE 'waiting' END, unmet
FROM unnest(%(ids)s::uuid[], %(kinds)s::text[], %(unmet)s::int[]) AS given (id, kind, unmet)
"""
_EDGES = """
INSERT INTO task_edges (tenant_id, task_id, needs_id)
SELECT %(tenant)s, task_id, needs_id
FROM unnest(%(tasks)s::uuid[], %(needs)s::uuid[]) AS given (task_id, needs_id)
"""


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
) -> Iterator[None]:
    """Write a tenant's agent, tasks and edges in routed transactions; yield after each."""

    def agent() -> Work[None]:
        yield Query(_AGENT, (tenant.key, tenant.agent, f"{tenant.name}-agent"))

    with timings.of("write an agent"):
        router.run(agent, tenant=tenant.key)
    yield
    unmet = dict.fromkeys(graph.names, 0)
    for name, _ in graph.edges:
        unmet[name] += 1
    for names in _batches(graph.names):
        with timings.of(f"write up to {_BATCH} tasks"):
            router.run(lambda names=names: _tasks(tenant, names, unmet), tenant=tenant.key)  # type: ignore[misc]
        yield
    for edges in _batches(graph.edges):
        with timings.of(f"write up to {_BATCH} edges"):
            router.run(lambda edges=edges: _edges(tenant, edges), tenant=tenant.key)  # type: ignore[misc]
        yield


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
                "SELECT kind FROM tasks WHERE tenant_id = %s AND id = %s",
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


def _tasks(tenant: DemoTenant, names: Sequence[str], unmet: dict[str, int]) -> Work[None]:
    yield Query(
        _TASKS,
        {
            "tenant": tenant.key,
            "agent": tenant.agent,
            "ids": [task_id(tenant, name) for name in names],
            "kinds": list(names),
            "unmet": [unmet[name] for name in names],
        },
    )


def _edges(tenant: DemoTenant, edges: Sequence[tuple[str, str]]) -> Work[None]:
    yield Query(
        _EDGES,
        {
            "tenant": tenant.key,
            "tasks": [task_id(tenant, name) for name, _ in edges],
            "needs": [task_id(tenant, needed) for _, needed in edges],
        },
    )


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
