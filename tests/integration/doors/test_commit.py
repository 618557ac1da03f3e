"""When is a commit acknowledged: returned, as a COMMIT, without a warning (design, section 5a)."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import psycopg
import pytest
from fix_commits import WAITING, forget_nobody, unknown_when_cancelled, until_row
from sqlalchemy import text

from tenantry import (
    AlreadyDone,
    AsyncRouter,
    Outcome,
    OutcomeUnknown,
    Query,
    Router,
    UnknownAgent,
    mint_agent_id,
)
from tenantry.errors import InvalidInput, ShardUnavailable
from tenantry_schema.naming import OPERATOR

AGENT = "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, %s)"
# Somebody asks what became of it, and waits for the answer.
ASKING = (
    "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND usename = 'tenantry_app' "
    "AND query ~ 'ON CONFLICT DO NOTHING|pg_sleep'"
)


def test_a_cancelled_synchronous_wait_is_no_acknowledgement(hanging, router, door, tenant):
    """Postgres returns from COMMIT with a warning: the caller gets an error."""
    agent = mint_agent_id(tenant)

    def write():
        with router.connection(tenant=tenant) as conn:
            conn.execute(AGENT, (tenant, agent, "a"))

    error = unknown_when_cancelled(hanging, write)
    assert "warning" in str(error)
    assert error.node is not None
    assert error.xid.isdigit()
    assert error.tenant == str(tenant)
    # It did happen, here: that is what "unknown" means.
    with router.connection(agent=agent) as conn:
        assert conn.execute("SELECT name FROM agents").fetchone() == ("a",)
    # While no standby confirms, not even the answer can be made durable: still unknown.
    with pytest.raises(OutcomeUnknown):
        door.outcome(error, deadline=0.5)
    forget_nobody(hanging)
    assert door.outcome(error) is Outcome.COMMITTED


@pytest.mark.parametrize("operation", [None, "once"])
def test_the_outcome_of_a_commit_that_is_still_waiting(hanging, router, door, tenant, operation):
    """It is waited for, neither guessed nor ended: it becomes committed with the standby."""
    agent = mint_agent_id(tenant)
    with pytest.raises(OutcomeUnknown) as unknown:
        with router.connection(tenant=tenant, deadline=0.5, operation=operation) as conn:
            conn.execute(AGENT, (tenant, agent, "a"))
    found = []
    asking = threading.Thread(target=lambda: found.append(door.outcome(unknown.value)))
    asking.start()
    until_row(hanging, ASKING)
    assert not found
    forget_nobody(hanging)
    asking.join()
    assert found == [Outcome.COMMITTED]
    with router.connection(tenant=tenant) as conn:
        assert conn.execute("SELECT count(*) FROM agents").fetchone() == (1,)


def count(router, tenant):
    with router.connection(tenant=tenant) as conn:
        return conn.execute("SELECT count(*) FROM agents").fetchone()[0]


def test_the_outcome_of_a_commit_that_never_arrived(through_a_network, router, door, tenant):
    """The connection was cut before COMMIT: what its session held is rolled back."""
    routed, network = through_a_network

    def work():
        yield Query(AGENT, (tenant, mint_agent_id(tenant), "a"))
        network.cut_before = b"COMMIT"

    with pytest.raises(OutcomeUnknown) as unknown:
        routed.run(work, tenant=tenant)
    # The question for the transaction's id may have come through before the cut.
    expected = Outcome.ROLLED_BACK if unknown.value.xid is not None else Outcome.UNKNOWN
    assert door.outcome(unknown.value) is expected
    assert count(router, tenant) == 0


def test_a_commit_that_never_arrived_is_run_again(through_a_network, router, tenant):
    """By its key: the server's session hangs on, and is ended before the next attempt."""
    routed, network = through_a_network
    tries = []

    def work():
        tries.append(1)
        yield Query(AGENT, (tenant, mint_agent_id(tenant), "a"))
        if len(tries) == 1:
            network.cut_before = b"COMMIT"

    routed.run(work, tenant=tenant, operation="cut")
    assert (len(tries), count(router, tenant)) == (2, 1)
    with pytest.raises(AlreadyDone):
        routed.run(work, tenant=tenant, operation="cut")


def test_the_outcome_of_a_commit_whose_answer_was_lost(through_a_network, router, door, tenant):
    """It happened: ``run`` finds that out by itself, and repeats nothing."""
    routed, network = through_a_network
    tries = []

    def work():
        tries.append(1)
        yield Query(AGENT, (tenant, mint_agent_id(tenant), "a"))
        network.cut_after = b"COMMIT"
        yield Query("SELECT 1")

    with pytest.raises(OutcomeUnknown) as unknown:
        routed.run(work, tenant=tenant, operation="answered", deadline=5)
    network.cut_after = None
    assert door.outcome(unknown.value) is Outcome.COMMITTED
    assert len(tries) == 1
    with pytest.raises(AlreadyDone):
        routed.run(work, tenant=tenant, operation="answered")
    assert count(router, tenant) == 1


def test_an_operation_is_done_once(router, door, tenant):
    """Its key is committed with it; again it is refused, and a rollback leaves no trace."""

    def work():
        yield Query(AGENT, (tenant, mint_agent_id(tenant), "a"))

    with pytest.raises(ZeroDivisionError), router.connection(tenant=tenant, operation="x") as conn:
        conn.execute(AGENT, (tenant, mint_agent_id(tenant), "lost"))
        raise ZeroDivisionError
    door.run(work, tenant=tenant, operation="x")
    with pytest.raises(AlreadyDone, match="'x'"):
        door.run(work, tenant=tenant, operation="x")
    with pytest.raises(AlreadyDone), router.session(tenant=tenant, operation="x") as session:
        session.execute(text("SELECT 1"))
    assert count(router, tenant) == 1


@pytest.mark.parametrize("operation", ["", "x" * 201, "a\0b", 5])
def test_operations_that_cannot_be(router, tenant, operation):
    """Refused before anything is asked."""
    with pytest.raises(InvalidInput, match="operation="):
        router.connection(tenant=tenant, operation=operation)


@pytest.mark.parametrize("door", ["connection", "session"])
def test_a_commit_that_outlives_its_deadline_is_unknown(hanging, router, tenant, door):
    """The socket is closed, never cancelled: Postgres goes on waiting for its standby."""
    with pytest.raises(OutcomeUnknown), getattr(router, door)(tenant=tenant, deadline=0.5) as it:
        name = "x"
        if door == "connection":
            it.execute(AGENT, (tenant, mint_agent_id(tenant), name))
        else:
            it.execute(
                text("INSERT INTO agents (tenant_id, id, name) VALUES (:t, :a, :n)"),
                {"t": tenant, "a": mint_agent_id(tenant), "n": name},
            )
    hanging.execute("SELECT pg_terminate_backend(%s)", (until_row(hanging, WAITING),))


WRITES_IN_A_SELECT = """
WITH made AS (INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, 'a') RETURNING id)
SELECT id FROM made
"""


def test_the_id_of_a_transaction_that_wrote_inside_a_select_is_known(hanging, router, tenant):
    """The server answers such a statement as a SELECT; claims of tasks are written so."""
    with pytest.raises(OutcomeUnknown) as unknown:
        with router.connection(tenant=tenant, deadline=0.5) as conn:
            conn.execute(WRITES_IN_A_SELECT, (tenant, mint_agent_id(tenant)))
    assert unknown.value.xid.isdigit()
    hanging.execute("SELECT pg_terminate_backend(%s)", (until_row(hanging, WAITING),))


@pytest.fixture
def declare(laid_out, tenant):
    """Routers that were told what commits of the tenant's shard survive."""
    with Router(laid_out.catalog_conninfo()) as router:

        def told(durability):
            shard = router.map.shards[router.where(tenant=tenant).shard]
            router.map.shards[shard.id] = replace(shard, durability=durability)
            return router

        yield told


@pytest.mark.parametrize(
    "case",
    [
        ("local", "off", True),
        ("local", "local", False),
        ("two-nodes", "off", True),
        ("two-nodes", "local", True),
    ],
)
def test_no_transaction_weakens_what_was_declared(hanging, declare, tenant, case):
    """A weaker level is raised before COMMIT, which then waits for the standby; others stay."""
    (durability, level, waits), told = case, []
    try:
        with declare(durability).connection(tenant=tenant, deadline=0.5) as conn:
            conn.execute(f"SET LOCAL synchronous_commit = {level}")
            conn.execute(AGENT, (tenant, mint_agent_id(tenant), "a"))
    except OutcomeUnknown as error:
        told.append(error)
        hanging.execute("SELECT pg_terminate_backend(%s)", (until_row(hanging, WAITING),))
    assert bool(told) is waits


def test_a_full_disk_is_the_shards_affair(router, tenant):
    """It is named, and nothing was committed; ``run`` may try again."""
    with pytest.raises(ShardUnavailable, match=r"takes no writes now .*: nothing was committed"):
        with router.connection(tenant=tenant) as conn:
            conn.execute(AGENT, (tenant, mint_agent_id(tenant), "a"))
            conn.execute("DO $$ BEGIN RAISE disk_full; END $$")
    with router.connection(tenant=tenant) as conn:
        assert conn.execute("SELECT count(*) FROM agents").fetchone() == (0,)


async def test_a_cancelled_task_does_not_cancel_its_commit(hanging, laid_out, tenant):
    """``asyncio.wait_for`` around a commit gives the error, and no cancel request is sent."""
    async with AsyncRouter(laid_out.catalog_conninfo()) as router:

        async def write():
            async with router.connection(tenant=tenant) as conn:
                await conn.execute(AGENT, (tenant, mint_agent_id(tenant), "a"))

        with pytest.raises(OutcomeUnknown):
            await asyncio.wait_for(write(), 0.5)
    pid = until_row(hanging, WAITING)
    hanging.execute("SELECT pg_terminate_backend(%s)", (pid,))


def test_a_refused_commit_is_not_unknown(laid_out, tenant):
    """A deferred constraint refuses at COMMIT: that is a definite answer."""
    with Router(laid_out.catalog_conninfo(OPERATOR)) as operator:
        with pytest.raises(psycopg.errors.UniqueViolation):
            with operator.connection(tenant=tenant) as conn:
                conn.execute("CREATE TEMP TABLE once (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
                conn.execute("INSERT INTO pg_temp.once VALUES (1), (1)")


def test_nothing_is_there_after_a_rollback(router, tenant):
    """The other half of the promise."""
    agent = mint_agent_id(tenant)
    with pytest.raises(ZeroDivisionError), router.connection(tenant=tenant) as conn:
        conn.execute(AGENT, (tenant, agent, "a"))
        raise ZeroDivisionError
    with pytest.raises(UnknownAgent), router.connection(agent=agent):
        pass
