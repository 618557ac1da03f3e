"""Run the demo: fleet, init, tenants, graphs, refusals, labour, and tables at the end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenantry import Query, Router
from tenantry_ops.demo.acyclic import without_circles
from tenantry_ops.demo.graph import read_graph
from tenantry_ops.demo.labour import run_to_completion
from tenantry_ops.demo.refusals import show_refusals
from tenantry_ops.demo.work import mint_tenants, read_graph_back, write_graph
from tenantry_ops.fleet import passing_fleet
from tenantry_ops.initialise import embedded_plan, initialise
from tenantry_ops.interrupts import Interrupts
from tenantry_ops.tenants import create
from tenantry_ops.timings import Timings
from tenantry_schema.errors import InvalidConfig
from tenantry_schema.naming import OPERATOR

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from tenantry_ops.demo.graph import Graph
    from tenantry_ops.demo.work import DemoTenant
    from tenantry_ops.fleet import Fleet
    from tenantry_ops.steps import Step

_ROWS = """
SELECT
    (SELECT count(*) FROM fleet.tenants),
    (SELECT count(*) FROM fleet.agents),
    (SELECT count(*) FROM fleet.tasks),
    (SELECT count(*) FROM fleet.task_edges)
"""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the demo is asked to do.

    :ivar directory: where the fleet lives, or None for a temporary folder
    :raises InvalidConfig: for fewer than two tenants or buckets: there would be nothing to refuse
    """

    directory: Path | None = None
    keep: bool = False
    graph: str = "installed"
    tenants: int = 20
    buckets: int = 16
    workers: int = 3

    def __post_init__(self) -> None:
        if not 2 <= self.tenants <= 10_000:
            raise InvalidConfig(f"the demo has 2 to 10,000 tenants, not {self.tenants}")
        if not 4 <= self.buckets <= 65_536:
            raise InvalidConfig(f"the demo has 4 to 65,536 buckets, not {self.buckets}")
        if not 2 <= self.workers <= 64:
            raise InvalidConfig(f"the demo has 2 to 64 workers, not {self.workers}")


def run_demo(options: DemoOptions, step: Step) -> dict[str, Any]:
    """Run the demo; return its summary.

    SIGINT and SIGTERM end it between two steps with :class:`SystemExit`; nothing is left behind.

    :raises InvalidConfig: for a folder that cannot be used
    :raises TenantryError: when something that must be refused was not
    """
    whole = read_graph(options.graph)
    graph = without_circles(whole)
    started = time.monotonic()
    with Interrupts() as interrupts:
        checked = interrupts.between(step)
        with passing_fleet(options.directory, interrupts, checked, keep=options.keep) as fleet:
            try:
                done = _on_fleet(fleet, options, graph, checked)
            except Exception:
                # Ctrl-C also reaches a process that is just being made: then that is the reason.
                interrupts.check()
                raise
            place = {"postgres": fleet.state.version, "directory": str(fleet.directory)}
            summary = {**place, **done}
    summary["graph"]["circular"] = len(whole.edges) - len(graph.edges)
    summary["seconds"] = round(time.monotonic() - started, 1)
    return summary


def _on_fleet(fleet: Fleet, options: DemoOptions, graph: Graph, step: Step) -> dict[str, Any]:
    done = 0

    def laid(what: str) -> None:
        nonlocal done
        done += 1
        step(f"lay out {what}", done, options.buckets + len(fleet.shards) + 1)

    initialise(embedded_plan(fleet, buckets=options.buckets), progress=laid)
    timings = Timings()
    tenants = _tenants(fleet, options, timings, step)
    with Router(fleet.catalog_conninfo(), application="tenantry-demo") as router:
        edges: dict[DemoTenant, list[tuple[UUID, UUID]]] = {}
        for number, tenant in enumerate(tenants, start=1):
            edges[tenant] = write_graph(router, tenant, graph, timings)
            step("write the graph of every tenant", number, len(tenants))
        for number, tenant in enumerate(tenants, start=1):
            read_graph_back(router, tenant, graph, timings)
            step("read it back", number, len(tenants))
        refused = show_refusals(router, fleet, tenants)
        ran = run_to_completion(router, fleet, edges, workers=options.workers, step=step)
        where = [_where(router, tenant) for tenant in tenants]
    return {
        "graph": {"source": graph.source, "tasks": len(graph.names), "edges": len(graph.edges)},
        "tenants": where,
        "operations": timings.rows(),
        "rows_per_shard": _rows(fleet),
        "refused": refused,
        **ran,
    }


def _tenants(fleet: Fleet, options: DemoOptions, timings: Timings, step: Step) -> list[DemoTenant]:
    tenants = mint_tenants(options.tenants, options.buckets)
    for number, tenant in enumerate(tenants, start=1):
        with timings.of("create a tenant"):
            create(fleet.catalog_conninfo(OPERATOR), tenant.name, str(tenant.key))
        step("create tenants", number, options.tenants)
    return tenants


def _where(router: Router, tenant: DemoTenant) -> dict[str, Any]:
    placement = router.where(tenant=tenant.key)
    return {
        "tenant": tenant.name,
        "key": str(tenant.key),
        "bucket": placement.schema,
        "shard": router.map.shards[placement.shard].name,
    }


def _rows(fleet: Fleet) -> list[dict[str, Any]]:
    with Router(fleet.catalog_conninfo(OPERATOR), application="tenantry-demo") as operator:
        counted = operator.scatter(Query(_ROWS))
    names = ("tenants", "agents", "tasks", "edges")
    return [
        {"shard": shard, **dict(zip(names, rows[0], strict=True))}
        for shard, rows in sorted(counted.rows.items())
    ]
