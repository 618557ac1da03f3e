"""Task graphs: tasks that are claimed by a lease with a fencing number, and their edges.

The hot table is never partitioned by state. The database checks what a state implies (a running
task has an owner and a lease, a ready one has no unmet dependency) and that each state follows from
the one before. Indexes hold only the rows that a claim may look at, so finished tasks cost nothing.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, ForeignKeyConstraint, Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from tenantry_schema.models.base import (
    Base,
    Counter,
    Document,
    Id,
    Small,
    Stamp,
    TenantId,
    Whole,
    stored_size,
)
from tenantry_schema.states import EXHAUSTED, ON_FAILURE, UNFINISHED, one_of, transition_check

#: Priorities are few, so that a claim looks at each by a range of the index that is due.
PRIORITIES = 10


class Task(Base):
    """One task of a tenant.

    :ivar change: how it came to its state, such as ``ready>running``; Postgres checks it
    :ivar step: counts the changes of state, and names them in ``transitions``
    :ivar attempt: how often it was claimed; ``crashes``, how often a lease ran out
    :ivar actor_id: the actor that it belongs to; ``owner_actor``, the one that holds the claim
    """

    __tablename__ = "tasks"

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    agent_id: Mapped[UUID | None]
    actor_id: Mapped[UUID | None]
    owner_actor: Mapped[UUID | None]
    run_after: Mapped[Stamp]
    lease_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    deadline: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[Stamp]
    updated_at: Mapped[Stamp]
    fence: Mapped[Counter]
    unmet: Mapped[Whole]
    step: Mapped[Whole]
    backoff_ms: Mapped[int] = mapped_column(server_default="1000")
    backoff_most_ms: Mapped[int] = mapped_column(server_default="300000")
    priority: Mapped[Small]
    attempt: Mapped[Small]
    crashes: Mapped[Small]
    max_attempts: Mapped[Small] = mapped_column(server_default="3")
    max_crashes: Mapped[Small] = mapped_column(server_default="5")
    queue: Mapped[str] = mapped_column(Text, server_default="default")
    kind: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, server_default="ready")
    change: Mapped[str] = mapped_column(Text, server_default="new>ready")
    owner: Mapped[str | None] = mapped_column(Text)
    exhausted: Mapped[str] = mapped_column(Text, server_default="failed")
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    payload: Mapped[Document]
    progress: Mapped[object | None] = mapped_column(JSONB)
    result: Mapped[object | None] = mapped_column(JSONB)
    error: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name="tasks_tenant_fkey"),
        ForeignKeyConstraint(
            ["tenant_id", "agent_id"], ["agents.tenant_id", "agents.id"], name="tasks_agent_fkey"
        ),
        ForeignKeyConstraint(
            ["tenant_id", "actor_id"], ["actors.tenant_id", "actors.id"], name="tasks_actor_fkey"
        ),
        ForeignKeyConstraint(
            ["tenant_id", "owner_actor"],
            ["actors.tenant_id", "actors.id"],
            name="tasks_owner_actor_fkey",
        ),
        # Postgres reads and plans every check anew for each statement that writes here: these five
        # take a third less than one for each condition (docs/benchmarks.md).
        CheckConstraint(
            f"{transition_check('change')} AND state = split_part(change, '>', 2)",
            name="transition",
        ),
        CheckConstraint(
            "(owner IS NOT NULL) = (state = 'running') AND "
            "(lease_until IS NOT NULL) = (state = 'running') AND "
            "(owner_actor IS NULL OR state = 'running') AND "
            "(unmet = 0 OR state <> ALL ('{ready,running,done}'))",
            name="state",
        ),
        CheckConstraint(
            "fence >= 0 AND step >= 0 AND attempt >= 0 AND crashes >= 0 AND unmet >= 0",
            name="counters",
        ),
        CheckConstraint(
            "length(kind) BETWEEN 1 AND 200 AND length(queue) BETWEEN 1 AND 63 AND queue <> '*' "
            f"AND priority BETWEEN 0 AND {PRIORITIES - 1} "
            "AND max_attempts >= 1 AND max_crashes >= 0 "
            "AND backoff_ms > 0 AND backoff_most_ms >= backoff_ms "
            f"AND {one_of('exhausted', EXHAUSTED)}",
            name="given",
        ),
        CheckConstraint(
            " AND ".join(stored_size(it) for it in ("payload", "result", "progress")), name="size"
        ),
        Index(
            "tasks_idempotency_key",
            "tenant_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
        Index(
            "tasks_ready_idx",
            "tenant_id",
            "queue",
            "priority",
            "run_after",
            postgresql_where=text("state = 'ready'"),
        ),
        Index(
            "tasks_lease_idx",
            "tenant_id",
            "queue",
            "lease_until",
            postgresql_where=text("state = 'running'"),
        ),
        Index(
            "tasks_agent_idx",
            "tenant_id",
            "agent_id",
            postgresql_where=text("agent_id IS NOT NULL"),
        ),
        Index(
            "tasks_actor_idx",
            "tenant_id",
            "actor_id",
            postgresql_where=text(f"actor_id IS NOT NULL AND state IN {UNFINISHED!r}"),
        ),
        Index(
            "tasks_owner_actor_idx",
            "tenant_id",
            "owner_actor",
            postgresql_where=text("owner_actor IS NOT NULL"),
        ),
        {
            "info": {
                "tenantry": {
                    "storage": {
                        "fillfactor": 80,
                        # A million finished tasks must not keep dead claims from being swept.
                        "autovacuum_vacuum_scale_factor": 0.005,
                        "autovacuum_vacuum_threshold": 1000,
                        "autovacuum_vacuum_cost_delay": 1,
                        "autovacuum_analyze_scale_factor": 0.02,
                    },
                    "worker": (
                        "tenant_id",
                        "queue",
                        "state",
                        "priority",
                        "run_after",
                        "lease_until",
                    ),
                }
            }
        },
    )


class TaskEdge(Base):
    """``task_id`` may start only when ``needs_id`` is done, or failed where that is ignored."""

    __tablename__ = "task_edges"

    tenant_id: Mapped[TenantId]
    task_id: Mapped[UUID] = mapped_column(primary_key=True)
    needs_id: Mapped[UUID] = mapped_column(primary_key=True)
    on_failure: Mapped[str] = mapped_column(Text, server_default="fail")

    __table_args__ = (
        # The tenant's own row is reached through the tasks: a third key would be checked per edge.
        ForeignKeyConstraint(
            ["tenant_id", "task_id"],
            ["tasks.tenant_id", "tasks.id"],
            name="task_edges_task_fkey",
            ondelete="CASCADE",
        ),
        ForeignKeyConstraint(
            ["tenant_id", "needs_id"],
            ["tasks.tenant_id", "tasks.id"],
            name="task_edges_needs_fkey",
            ondelete="CASCADE",
        ),
        CheckConstraint("task_id <> needs_id", name="not_itself"),
        CheckConstraint(one_of("on_failure", ON_FAILURE), name="on_failure"),
        Index("task_edges_needs_idx", "tenant_id", "needs_id"),
    )


class TaskLimit(Base):
    """How many tasks of a queue (``*``: of the tenant) may run at once."""

    __tablename__ = "task_limits"

    tenant_id: Mapped[TenantId]
    queue: Mapped[str] = mapped_column(Text, primary_key=True)
    most: Mapped[Whole]

    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name="task_limits_tenant_fkey"),
        CheckConstraint("length(queue) BETWEEN 1 AND 63", name="queue"),
        CheckConstraint("most >= 0", name="most"),
    )
