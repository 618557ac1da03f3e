"""Tenants that are UUIDs, numbers or words, through both doors, on a fleet of each."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count
from typing import Any
from uuid import UUID

import psycopg
import pytest
from fix_blank import make_blank
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tenantry import AlreadyDone, AsyncRouter, Outcome, OutcomeUnknown, Query, Router
from tenantry_ops.initialise import initialise
from tenantry_ops.tenants import create

#: The first of its type, and how others are made.
KEYS = {
    "uuid": (UUID("0b1e6a52-7f0e-4c1b-9d55-3f6a2c8e9d10"), lambda it: UUID(int=it)),
    "bigint": (-7, lambda it: 2**63 - it),
    "text": ("Größe 'x'", lambda it: f'Größe "{it}"; -- %s \\'),
}
ADD = "INSERT INTO notes (tenant_id, body) VALUES ({tenant}, {body})"
SEE = "SELECT tenant_id, body FROM notes WHERE body = {body}"
TAKE = "UPDATE notes SET body = 'taken' WHERE tenant_id = {tenant} RETURNING body"
_numbers = count()


@dataclass(frozen=True)
class Kept:
    """A fleet, and two tenants of one of its buckets."""

    conninfo: str
    mine: Any
    other: Any


@pytest.fixture(
    scope="module",
    # Fleets of UUIDs are everywhere else.
    params=[pytest.param("uuid", marks=pytest.mark.slow), "bigint", "text"],
)
def kept(laid_out, request, in_front):
    first, another = KEYS[request.param]
    with ExitStack() as stack:
        blank = make_blank(laid_out, stack)
        plan = blank.plan(2, models=f"integration.doors.keyed:{request.param}")
        initialise(replace(plan, shards=plan.shards[:1]))
        stack.enter_context(in_front(laid_out, blank.catalog))
        with Router(blank.app) as router:
            home = router.where(tenant=first)
            second = next(it for it in map(another, count(1)) if router.where(tenant=it) == home)
        for name, key in (("first", first), ("second", second)):
            create(blank.catalog, name, str(key))
        yield Kept(blank.app, first, second)


@pytest.fixture(params=["connection", "session", "run"])
async def door(request, kept):
    """A form of the sync door."""
    with Router(kept.conninfo) as router:

        async def call(tenant, statement, values, **options):
            if request.param == "run":
                return router.run(lambda: work(statement, values), tenant=tenant, **options)
            with getattr(router, request.param)(tenant=tenant, **options) as it:
                if request.param == "session":
                    return rows_of(it.execute(*for_session(statement, values)))
                cursor = it.execute(*for_psycopg(statement, values))
                return cursor.fetchall() if cursor.description else []

        call.outcome = asynchronous(router.outcome)
        yield call


@pytest.fixture(params=["connection", "session", "run"])
async def adoor(request, kept):
    """A form of the async door."""
    async with AsyncRouter(kept.conninfo) as router:

        async def call(tenant, statement, values, **options):
            if request.param == "run":
                return await router.run(lambda: work(statement, values), tenant=tenant, **options)
            async with getattr(router, request.param)(tenant=tenant, **options) as it:
                if request.param == "session":
                    return rows_of(await it.execute(*for_session(statement, values)))
                cursor = await it.execute(*for_psycopg(statement, values))
                return await cursor.fetchall() if cursor.description else []

        call.outcome = router.outcome
        yield call


def asynchronous(function):
    async def call(*arguments):
        return function(*arguments)

    return call


def work(statement, values):
    return (yield Query(*for_psycopg(statement, values)))


def for_psycopg(statement, values):
    return statement.format(**{it: f"%({it})s" for it in values}), values


def for_session(statement, values):
    return text(statement.format(**{it: f":{it}" for it in values})), values


def rows_of(result):
    return [tuple(it) for it in result] if result.returns_rows else []


async def check(call, kept):
    """A tenant's rows come back with its key; the other's are neither seen, changed nor made."""
    mine, other, body = kept.mine, kept.other, f"note {next(_numbers)}"
    for tenant in (mine, other):
        await call(tenant, ADD, {"tenant": tenant, "body": body})
        assert await call(tenant, SEE, {"body": body}) == [(tenant, body)]
    assert await call(mine, TAKE, {"tenant": other}) == []
    with pytest.raises((psycopg.errors.InsufficientPrivilege, DBAPIError)) as refused:
        await call(mine, ADD, {"tenant": other, "body": body})
    assert "row-level security" in str(refused.value)
    assert await call(other, SEE, {"body": body}) == [(other, body)]


async def check_operation(call, kept):
    """An operation is done once by each tenant, and its outcome is known."""
    mine, other, body = kept.mine, kept.other, f"note {next(_numbers)}"
    operation = f"it's {body} %s"
    for tenant in (mine, other):
        unknown = OutcomeUnknown("?", tenant=str(tenant), shard=1, operation=operation)
        assert await call.outcome(unknown) is Outcome.ROLLED_BACK
        row = {"tenant": tenant, "body": body}
        await call(tenant, ADD, row, operation=operation)
        assert await call.outcome(unknown) is Outcome.COMMITTED
        with pytest.raises(AlreadyDone):
            await call(tenant, ADD, row, operation=operation)
        assert await call(tenant, SEE, {"body": body}) == [(tenant, body)]


async def test_rows_of_two_tenants(door, kept):
    """In every form of the sync door."""
    await check(door, kept)


async def test_rows_of_two_tenants_async(adoor, kept):
    """In every form of the async door."""
    await check(adoor, kept)


@pytest.mark.slow
async def test_an_operation_is_done_once(door, kept):
    """In every form of the sync door."""
    await check_operation(door, kept)


async def test_an_operation_is_done_once_async(adoor, kept):
    """In every form of the async door."""
    await check_operation(adoor, kept)
