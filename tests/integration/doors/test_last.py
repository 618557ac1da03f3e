"""A last statement and its COMMIT in one flight: what fails, what is told, what is not known."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing, suppress

import psycopg
import pytest
from fix_commits import WAITING, unknown_when_cancelled, until_row
from reading import NEWEST, shard_of

from tenantry import (
    AlreadyDone,
    AsyncRouter,
    Outcome,
    OutcomeUnknown,
    Query,
    Receipt,
    Router,
    Stale,
    mint_agent_id,
)
from tenantry.errors import InvalidInput, ShardUnavailable
from tenantry_schema.naming import OPERATOR

AGENT = "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, %s)"
NAMES = "SELECT name, current_setting('transaction_read_only') FROM agents WHERE tenant_id = %s"
SETTINGS = (
    "SELECT current_setting('search_path'), current_setting('tenantry.tenant'), "
    "current_setting('transaction_read_only')"
)
LOCK = "SELECT name FROM agents WHERE tenant_id = %s AND id = %s FOR UPDATE"
BLOCKED = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


def inserts(tenant, agent=None, *, last=True):
    """Return a work of one statement."""

    def work():
        yield Query(AGENT, (tenant, agent or mint_agent_id(tenant), "a"), last=last)

    return work


def first(pieces, word):
    """Return the number of the first piece that has a word."""
    return next(number for number, it in enumerate(pieces) if word in it)


def count(router, tenant):
    with router.connection(tenant=tenant) as conn:
        return conn.execute("SELECT count(*) FROM agents").fetchone()[0]


def test_nobody_waits_between_a_last_statement_and_its_commit(through_a_network, router, tenant):
    """The COMMIT is sent before the statement's answer has come; else after it."""
    routed, network = through_a_network
    for last in (True, False):
        network.pause_back = 0.1
        network.passed.clear()
        routed.run(inserts(tenant, last=last), tenant=tenant)
        network.pause_back = 0
        ways = {word: first(network.passed, word) for word in (b"COMMIT", b"INSERT 0 1")}
        assert (ways[b"COMMIT"] < ways[b"INSERT 0 1"]) is last
    assert count(router, tenant) == 2


def test_a_statement_may_be_prepared_on_the_way(door, router, tenant):
    """Which takes an answer of its own, so that the COMMIT follows then."""
    for _ in range(12):
        door.run(inserts(tenant), tenant=tenant)
    assert count(router, tenant) == 12


def test_what_is_last_after_others_takes_the_commit_along(door, router, tenant):
    """All of it is committed; its rows are there."""

    def work():
        yield Query(AGENT, (tenant, mint_agent_id(tenant), "a"))
        rows = yield Query("SELECT count(*) FROM agents WHERE name = %s", ("a",), last=True)
        return rows

    assert door.run(work, tenant=tenant) == [(1,)]
    assert count(router, tenant) == 1


def test_a_last_statement_that_fails_commits_nothing(door, router, tenant):
    """Nor what came before it; the connection goes on."""
    agent = mint_agent_id(tenant)

    def work():
        yield Query(AGENT, (tenant, agent, "first"))
        yield Query(AGENT, (tenant, agent, "again"), last=True)

    with pytest.raises(psycopg.errors.UniqueViolation):
        door.run(work, tenant=tenant)
    assert count(router, tenant) == 0
    door.run(inserts(tenant, agent), tenant=tenant)
    assert count(router, tenant) == 1


def test_a_commit_that_is_refused_is_not_unknown(opened, laid_out, tenant):
    """A deferred constraint."""

    def work():
        yield Query("CREATE TEMP TABLE once (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        yield Query("INSERT INTO pg_temp.once VALUES (%s), (1)", (1,), last=True)

    with opened(laid_out.catalog_conninfo(OPERATOR)) as operator:
        with pytest.raises(psycopg.errors.UniqueViolation):
            operator.run(work, tenant=tenant)


@pytest.mark.parametrize("last", [True, False])
def test_nothing_comes_after_the_last(door, router, tenant, last):
    """A work that goes on has no transaction any more."""

    def work():
        yield Query(AGENT, (tenant, mint_agent_id(tenant), "a"), last=last)
        yield Query("SELECT 1")

    if last:
        with pytest.raises(InvalidInput, match="goes on after a query that it called its last"):
            door.run(work, tenant=tenant)
    else:
        door.run(work, tenant=tenant)
    assert count(router, tenant) == 1


def test_a_warning_of_the_statement_is_not_its_commits(door, tenant):
    """Only what comes with the COMMIT puts it in doubt."""

    def work():
        return (yield Query("SELECT pg_advisory_unlock(%s::bigint)", (4711,), last=True))

    assert door.run(work, tenant=tenant) == [(False,)]


def test_the_token_comes_along(door, tenant):
    """The position of the commit is asked in the same flight."""
    receipt = Receipt()
    door.run(inserts(tenant), tenant=tenant, token=True, receipt=receipt)
    assert receipt.token is not None


@pytest.mark.parametrize("seconds", [60, 1e-6])
def test_a_declared_read_has_its_rows_or_its_error(door, tenant, seconds):
    """On a replica, and on the primary; nothing is written."""

    def work():
        return (
            yield Query(
                "SELECT 6 / %s::int, current_setting('transaction_read_only')", (by,), last=True
            )
        )

    door.run(inserts(tenant), tenant=tenant)
    for by in (2, 3):
        assert door.run(work, tenant=tenant, read=Stale(seconds=seconds)) == [(6 / by, "on")]
    by = 0
    with pytest.raises(psycopg.errors.DivisionByZero):
        door.run(work, tenant=tenant, read=Stale(seconds=seconds))


def test_a_declared_read_is_over_with_its_last_statement(through_a_network, router, tenant):
    """Neither BEGIN nor COMMIT is sent, as the tags of their answers would tell."""
    routed, network = through_a_network
    routed.run(inserts(tenant), tenant=tenant)
    for last in (True, False):

        def work(last=last):
            return (yield Query(NAMES, (tenant,), last=last))

        network.passed.clear()
        assert routed.run(work, tenant=tenant, read=NEWEST) == [("a", "on")]
        tags = {it for it in (b"BEGIN", b"SELECT 1", b"COMMIT") if it in b"".join(network.passed)}
        assert tags == ({b"SELECT 1"} if last else {b"BEGIN", b"SELECT 1", b"COMMIT"})


def test_a_read_that_is_over_leaves_no_setting(narrow, router, tenant):
    """Each is set for its transaction only, which had no BEGIN."""

    def work():
        return (yield Query(NAMES, (tenant,), last=True))

    router.run(inserts(tenant), tenant=tenant)
    for _ in range(8):
        assert narrow.run(work, tenant=tenant, read=NEWEST) == [("a", "on")]
    with narrow.connection(tenant=tenant, read=NEWEST) as conn:
        conn.commit()
        left = conn.execute(SETTINGS).fetchone()
    assert left == ('""', "", "off")


def test_a_work_cannot_answer_its_last_query(door, router, tenant):
    """The transaction is over: nothing that came before is there, whatever the work would say."""
    agent = mint_agent_id(tenant)

    def work():
        yield Query(AGENT, (tenant, agent, "first"))
        with suppress(psycopg.errors.UniqueViolation):
            yield Query(AGENT, (tenant, agent, "again"), last=True)
        return "done"

    for _ in range(8):
        with pytest.raises(psycopg.errors.UniqueViolation):
            door.run(work, tenant=tenant)
    assert count(router, tenant) == 0


@pytest.mark.parametrize("error", [LookupError("mine"), psycopg.errors.SerializationFailure()])
def test_what_a_work_raises_after_its_commit_is_its_own(door, router, tenant, error):
    """It is neither tried again nor explained as something that committed nothing."""

    def work():
        yield Query(AGENT, (tenant, mint_agent_id(tenant), "a"), last=True)
        raise error

    with pytest.raises(type(error)):
        door.run(work, tenant=tenant)
    assert count(router, tenant) == 1


def test_rows_that_cannot_be_read_were_committed(door, router, tenant):
    """The driver has no value for them, which nobody knew before the COMMIT."""
    made = (
        "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, 'a') RETURNING 'infinity'::date"
    )

    def work():
        yield Query(made, (tenant, mint_agent_id(tenant)), last=True)

    with pytest.raises(OutcomeUnknown, match="its rows cannot be read") as unknown:
        door.run(work, tenant=tenant)
    assert count(router, tenant) == 1
    assert door.outcome(unknown.value) is Outcome.COMMITTED


@pytest.mark.parametrize("operation", [None, "once"])
def test_a_flight_that_never_arrived(through_a_network, router, door, tenant, operation):
    """Nothing came of it; what has a key is done by a second attempt."""
    routed, network = through_a_network
    routed.run(inserts(tenant), tenant=tenant)
    network.cut_before = b"COMMIT"
    if operation is None:
        with pytest.raises(OutcomeUnknown) as unknown:
            routed.run(inserts(tenant), tenant=tenant)
        # The question for the transaction's id may have come through before the cut.
        expected = Outcome.ROLLED_BACK if unknown.value.xid is not None else Outcome.UNKNOWN
        assert door.outcome(unknown.value) is expected
    else:
        routed.run(inserts(tenant), tenant=tenant, operation=operation)
    assert count(router, tenant) == (1 if operation is None else 2)


def test_a_flight_whose_answer_was_lost(through_a_network, router, tenant):
    """It happened, and nothing is repeated."""
    routed, network = through_a_network
    network.cut_after = b"COMMIT"
    with pytest.raises(OutcomeUnknown) as unknown:
        routed.run(inserts(tenant), tenant=tenant, operation="answered", deadline=5)
    network.cut_after = None
    assert router.outcome(unknown.value) is Outcome.COMMITTED
    with pytest.raises(AlreadyDone):
        routed.run(inserts(tenant), tenant=tenant, operation="answered")
    assert count(router, tenant) == 1


def test_a_cancelled_wait_for_a_standby_is_no_acknowledgement(hanging, laid_out, opened, tenant):
    """Postgres returns from COMMIT with a warning; the id was told before."""

    def write():
        with opened(laid_out.catalog_conninfo()) as routed:
            routed.run(inserts(tenant), tenant=tenant)

    error = unknown_when_cancelled(hanging, write)
    assert "warning" in str(error)
    assert error.xid.isdigit()


async def test_a_cancelled_task_does_not_cancel_its_flight(hanging, laid_out, tenant):
    """It gets the error; Postgres goes on waiting."""
    async with AsyncRouter(laid_out.catalog_conninfo()) as router:
        with pytest.raises(OutcomeUnknown):
            await asyncio.wait_for(router.run(inserts(tenant), tenant=tenant), 0.5)
    hanging.execute("SELECT pg_terminate_backend(%s)", (until_row(hanging, WAITING),))


@pytest.mark.parametrize("ends", ["session", "deadline"])
def test_a_statement_that_never_ends(laid_out, tenant, ends):
    """A server that says goodbye never came to the COMMIT; at a deadline nobody can tell.

    Nor can a pooler.
    """
    agent = mint_agent_id(tenant)

    def lock():
        yield Query(LOCK, (tenant, agent), last=True)

    told = []

    def wait(router, deadline):
        try:
            router.run(lock, tenant=tenant, deadline=deadline)
        except (OutcomeUnknown, ShardUnavailable) as error:
            told.append(type(error))

    with Router(laid_out.catalog_conninfo(), attempts=1) as router:
        router.run(inserts(tenant, agent), tenant=tenant)
        server = laid_out.superuser_conninfo(shard_of(laid_out, router, tenant).primary)
        with (
            router.connection(tenant=tenant) as holder,
            closing(psycopg.connect(server, autocommit=True)) as other,
        ):
            holder.execute(LOCK, (tenant, agent))
            certain = ends == "session" and not holder.pooled
            deadline = 0.5 if ends == "deadline" else 30
            waiting = threading.Thread(target=wait, args=(router, deadline))
            waiting.start()
            if ends == "session":
                pid = until_row(other, BLOCKED)
                other.execute("SELECT pg_terminate_backend(%s)", (pid,))
            waiting.join()
    assert told == [ShardUnavailable if certain else OutcomeUnknown]
