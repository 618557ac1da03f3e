"""Every hot statement uses its index and touches one bucket: asked of Postgres, not believed."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer

from tenantry import actors, agents, history, schedules, tasks
from tenantry.drive import drive as plain_drive
from tenantry.prelude import sweep_prelude
from tenantry_schema.naming import APP, SHARD_DATABASE
from tenantry_schema.store.due import due
from tenantry_schema.store.endings import finish_free

pytestmark = pytest.mark.slow

FINISHED = """
INSERT INTO {tasks} (tenant_id, id, kind, state, change, priority, queue)
SELECT tenant_id, gen_random_uuid(), 'old', 'cancelled', 'ready>cancelled', 0, 'default'
FROM unnest(%s::uuid[]) AS it (tenant_id), generate_series(1, 4000)
"""
READY = """
INSERT INTO {tasks} (tenant_id, id, kind, queue, priority, run_after)
SELECT tenant_id, gen_random_uuid(), 'new', 'default', number %% 10, now() - interval '1 min'
FROM unnest(%s::uuid[]) AS it (tenant_id), generate_series(1, 400) AS number
"""
HISTORY = """
INSERT INTO {transitions} (tenant_id, task_id, step, from_state, to_state)
SELECT tenant_id, gen_random_uuid(), 1, 'new', 'ready'
FROM unnest(%s::uuid[]) AS it (tenant_id), generate_series(1, 1500)
"""
EDGES = """
INSERT INTO {task_edges} (tenant_id, task_id, needs_id)
SELECT tenant_id, id, needs FROM (
    SELECT tenant_id, id, lag(id) OVER (PARTITION BY tenant_id ORDER BY id) AS needs
    FROM {tasks} WHERE tenant_id = ANY (%s) AND state = 'cancelled'
) AS chained
WHERE needs IS NOT NULL
"""
AGENTS = """
INSERT INTO {agents} (tenant_id, id, name)
SELECT tenant_id, gen_random_uuid(), 'a' || number
FROM unnest(%s::uuid[]) AS it (tenant_id), generate_series(1, 500) AS number
"""
ACTORS = """
INSERT INTO {actors} (tenant_id, id, agent_id, kind)
SELECT tenant_id, gen_random_uuid(), id, 'k' FROM {agents} WHERE tenant_id = ANY (%s)
"""
SCHEDULES = """
INSERT INTO {schedules} (tenant_id, id, name, every, task_kind, next_fire)
SELECT tenant_id, gen_random_uuid(), 's' || number, '1 hour', 'k', now() + interval '1 hour'
FROM unnest(%s::uuid[]) AS it (tenant_id), generate_series(1, 500) AS number
"""
LOGS = """
INSERT INTO {logs} (tenant_id, id, message)
SELECT tenant_id, gen_random_uuid(), 'm'
FROM unnest(%s::uuid[]) AS it (tenant_id), generate_series(1, 1500)
"""
TABLES = ("logs", "transitions", "schedules", "task_edges", "tasks", "actors", "agents", "tenants")


def primary_of(fleet, router, tenant):
    name = router.map.shards[router.where(tenant=tenant).shard].name
    return next(it for it in fleet.shards if it.name == name).primary


@pytest.fixture
def full(laid_out, router, tenant):
    """The tenant's bucket with many rows of others in every table, analysed."""
    home = router.where(tenant=tenant)
    server = primary_of(laid_out, router, tenant)
    names = {it: sql.Identifier(home.schema, it) for it in TABLES}
    with psycopg.connect(laid_out.superuser_conninfo(server, SHARD_DATABASE)) as conn:
        insert = "INSERT INTO {tenants} (tenant_id, name) SELECT gen_random_uuid(), 'o' "
        text = sql.SQL(insert + "FROM generate_series(1, 5) RETURNING tenant_id")
        others = [row[0] for row in conn.execute(text.format(**names))]
        for statement in (READY, AGENTS, ACTORS, SCHEDULES, LOGS):
            conn.execute(sql.SQL(statement).format(**names), (others,))
        for statement in (FINISHED, EDGES, HISTORY):
            conn.execute(sql.SQL(statement).format(**names), ([*others, tenant],))
        conn.commit()
        conn.autocommit = True
        for table in names.values():
            # What earlier tests deleted would be passed over in the indexes, too.
            conn.execute(sql.SQL("VACUUM (ANALYZE) {}").format(table))
        yield laid_out.conninfo(server, user=APP), home.schema
        for table in names.values():
            gone = sql.SQL("DELETE FROM {} WHERE tenant_id = ANY (%s)").format(table)
            conn.execute(gone, (others,))


def explain(conn, query, *, generic):
    """Return the plan of a query, as the driver would send it."""
    converted = PostgresQuery(Transformer.from_context(conn))
    converted.convert(query.text, query.params)
    values = list(query.params or ())
    if isinstance(query.params, dict):
        named = [part.item for part in converted._parts if isinstance(part.item, str)]
        values = [query.params[name] for name in dict.fromkeys(named)]
    mode = "force_generic_plan" if generic else "force_custom_plan"
    conn.execute(f"SET LOCAL plan_cache_mode = {mode}")
    conn.execute(b"PREPARE asked AS " + converted.query)
    given = sql.SQL(", ").join(sql.Literal(it) for it in values)
    call = sql.SQL("EXECUTE asked ({})" if values else "EXECUTE asked").format(given)
    row = conn.execute(sql.SQL("EXPLAIN (VERBOSE, FORMAT JSON) {}").format(call)).fetchone()
    conn.execute("DEALLOCATE asked")
    return row[0][0]["Plan"]


def within_this_week(near):
    """Return a span around now within the partition that has rows: empty ones are scanned."""
    now = datetime.now(UTC)
    monday = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=now.weekday())
    return {
        "since": max(now - near, monday),
        "until": min(now + near, monday + timedelta(weeks=1)),
    }


def nodes(plan):
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def drive(conn, work, plans):
    """Run a work, and note the plans of each of its statements."""
    try:
        query = next(work)
        while True:
            plans += [explain(conn, query, generic=it) for it in (False, True)]
            cursor = conn.execute(query.text, query.params)
            query = work.send(cursor.fetchall() if cursor.description else [])
    except StopIteration as stop:
        return stop.value


def check(plans, schema):
    assert plans
    for plan in plans:
        for node in nodes(plan):
            table = node.get("Relation Name", "")
            kind = node["Node Type"]
            if kind == "Seq Scan":
                assert not table.startswith(TABLES), node
            if table:
                assert node["Schema"] == schema, node
            if kind in {"Index Scan", "Index Only Scan", "Bitmap Index Scan"}:
                found = node.get("Index Cond", "")
                # An agent's id alone finds one row as well.
                assert "tenant_id" in found or node["Index Name"] == "agents_id_idx", node
                # The whole key of a task, of its edges: never all that the tenant has.
                if node["Index Name"] == "tasks_pkey":
                    assert re.search(r"\bid = ", found), node
                if node["Index Name"].startswith("task_edges"):
                    assert "needs_id" in found or "task_id" in found, node


def test_hot_statements_go_through_their_indexes(full, router, tenant):
    """Planned for these values and for any: no scan of a table, no other bucket."""
    conninfo, schema = full
    span = within_this_week(timedelta(hours=1))
    graph = [tasks.NewTask("k", key="a"), tasks.NewTask("k")]
    edges = [tasks.Edge(graph[1].id, graph[0].id, "ignore")]
    plans = []
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute(router._route(tenant, None).prelude.message)

        def run(factory):
            return drive(conn, factory(), plans)

        agent = run(agents.register(tenant, name="a"))
        run(agents.update(agent, name="b"))
        run(agents.page(tenant))
        actor = run(actors.register(tenant, kind="k", agent=agent.id))
        run(tasks.submit(tenant, graph, edges))
        mine = run(actors.activate(tenant, actor.id)).actor
        run(actors.save(mine, {}))
        run(actors.recover(tenant, actor.id))
        (claim,) = run(tasks.claim(tenant, mine, most=5))
        run(tasks.renew([claim]))
        run(tasks.progress(claim, 1))
        run(tasks.finish(claim))
        run(tasks.submit(tenant, [tasks.NewTask("k")]))
        (claim, other) = run(tasks.claim(tenant, "w", most=5))
        assert run(finish_free([tasks.finish(other)])) == set()
        assert run(tasks.fail(claim, "x")) == "ready"
        run(tasks.get(tenant, claim.id))
        run(tasks.cancel(tenant, [claim.id]))
        run(tasks.requeue(tenant, [claim.id]))
        assert not run(tasks.submit(tenant, [tasks.NewTask("k", key="a")])).created
        run(tasks.submit(tenant, [tasks.NewTask("k", queue="b")]))
        run(tasks.limit(tenant, 3))
        (claim,) = run(tasks.claim(tenant, "w", queue="b"))
        run(tasks.renew([claim]))
        run(tasks.release([claim]))
        (claim,) = run(tasks.claim(tenant, "w", queue="b"))
        run(tasks.fail(claim, "x", retry=False))
        run(tasks.limit(tenant, None))
        made = run(schedules.create(tenant, name="s", task=tasks.NewTask("k"), every=60))
        run(schedules.fire_due(tenant))
        run(schedules.page(tenant))
        for statement in (schedules.pause, schedules.resume, schedules.remove):
            run(statement(tenant, made.id))
        run(history.transitions(tenant, **span))
        run(history.of_task(tenant, claim.id, **span))
        run(history.log(tenant, [history.NewLog("m")]))
        run(history.logs(tenant, **span))
        run(history.logs(tenant, task=claim.id, **span))
        conn.rollback()
    check(plans, schema)


def test_what_a_claim_writes_is_found_by_its_id(full, router, tenant):
    """Also when the statistics know of no running task: those who run may be many by now."""
    conninfo, _ = full
    plans = []
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute(router._route(tenant, None).prelude.message)
        drive(conn, tasks.submit(tenant, [tasks.NewTask("k") for _ in range(4)])(), [])
        first, *others = drive(conn, tasks.claim(tenant, "w", most=4)(), [])
        for work in (tasks.renew([first]), tasks.progress(first, 1), tasks.finish(first)):
            drive(conn, work(), plans)
        ending = (tasks.fail(others[0], "x"), tasks.fail(others[1], "x", retry=False))
        for work in (*ending, finish_free([tasks.finish(others[2])])):
            drive(conn, work(), plans)
        conn.rollback()
    indexes = [
        node["Index Name"]
        for plan in plans
        for node in nodes(plan)
        if "Index Name" in node and node["Relation Name"] == "tasks"
    ]
    assert len(indexes) >= len(plans)
    assert set(indexes) == {"tasks_pkey"}


@pytest.fixture
def long_queue(laid_out, router, tenant):
    """The tenant's ready tasks, all of one priority, as the statistics tell."""
    server = primary_of(laid_out, router, tenant)
    names = {"tasks": sql.Identifier(router.where(tenant=tenant).schema, "tasks")}
    alter = "ALTER TABLE {tasks} ALTER COLUMN priority "
    router.run(tasks.submit(tenant, [tasks.NewTask("k") for _ in range(10_000)]), tenant=tenant)
    superuser = laid_out.superuser_conninfo(server, SHARD_DATABASE)
    with psycopg.connect(superuser, autocommit=True) as conn:
        conn.execute(sql.SQL(alter + "SET (n_distinct = 1)").format(**names))
        conn.execute(sql.SQL("VACUUM (ANALYZE) {tasks}").format(**names))
        yield laid_out.conninfo(server, user=APP)
        conn.execute(sql.SQL(alter + "RESET (n_distinct)").format(**names))


def test_hot_statements_are_not_planned_anew_each_time(long_queue, router, tenant):
    """With statistics of a long queue Postgres settles for one plan for all values."""
    with psycopg.connect(long_queue, autocommit=True, prepare_threshold=0) as conn:
        conn.execute(router._route(tenant, None).prelude.message, prepare=False)

        def run(factory):
            return plain_drive(conn, factory())

        for _ in range(8):
            first, second, third = run(tasks.claim(tenant, "w", most=3))
            run(tasks.renew([first, second, third]))
            run(tasks.finish_many([(first, None)]))
            run(finish_free([tasks.finish(third)]))
            run(tasks.fail(second, "x"))
        counted = conn.execute(
            "SELECT generic_plans, left(statement, 400) FROM pg_prepared_statements "
            "WHERE statement ~ 'fence'",
            prepare=False,
        ).fetchall()
        conn.rollback()
    assert len(counted) == 5, counted
    assert not [text for generic, text in counted if generic == 0]


def test_history_looks_into_the_partitions_of_its_range_only(full, router, tenant):
    """Weeks outside the range are pruned."""
    conninfo, _ = full
    now = datetime.now(UTC)
    span = {"since": now - timedelta(minutes=1), "until": now}
    with psycopg.connect(conninfo, autocommit=True) as conn:
        for table, factory in (
            ("transitions", history.of_task(tenant, uuid4(), **span)),
            ("transitions", history.transitions(tenant, **span)),
            ("logs", history.logs(tenant, **span)),
            ("logs", history.logs(tenant, task=uuid4(), **span)),
        ):
            plans = []
            conn.execute(router._route(tenant, None).prelude.message)
            drive(conn, factory(), plans)
            conn.rollback()
            touched = {it["Relation Name"] for it in nodes(plans[0]) if "Relation Name" in it}
            assert 1 <= len(touched) <= 2
            assert all(name.startswith(f"{table}_p") for name in touched)


def swept(conninfo, schema):
    """Return how a sweep of one bucket went."""
    (query,) = due([schema], ["default"])
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute(sweep_prelude().message)
        text = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, VERBOSE, FORMAT JSON) ") + query.text
        plan = conn.execute(text, query.params).fetchone()[0][0]["Plan"]
        conn.rollback()
    return plan


def test_a_sweep_passes_a_long_queue_by(long_queue, router, tenant):
    """However many tasks are ready, it asks for one of each priority, through the index."""
    plan = swept(long_queue, router.where(tenant=tenant).schema)
    scans = [it for it in nodes(plan) if it.get("Relation Name") == "tasks"]
    assert scans
    assert not [it for it in scans if it["Node Type"] == "Seq Scan"]


def test_a_sweep_goes_from_tenant_to_tenant(full):
    """Through the partial indexes, however many finished tasks there are."""
    conninfo, schema = full
    plan = swept(conninfo, schema)
    indexes = {node["Index Name"] for node in nodes(plan) if "Index Name" in node}
    assert {"tasks_ready_idx", "tasks_lease_idx", "schedules_due_idx"} <= indexes
    assert {node["Schema"] for node in nodes(plan) if "Relation Name" in node} == {schema}
    assert not [node for node in nodes(plan) if node["Node Type"] == "Seq Scan"]
    # Other tests may have left tasks of other tenants in this bucket.
    steps = sum(it["Actual Rows"] for it in nodes(plan) if it["Node Type"] == "Recursive Union")
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 40 * steps
