"""Agents with a service's own ids are found through the directory; routers say goodbye."""

from __future__ import annotations

import psycopg
import pytest

from tenantry import AsyncRouter, InvalidKey, Router, UnknownAgent
from tenantry.catalog_writes import register_agent
from tenantry.drive import drive
from tenantry_ops.locking import connect
from tenantry_schema.errors import AlreadyExists, UnknownTenant
from tenantry_schema.naming import OPERATOR


def enter(fleet, agent, tenant):
    with psycopg.connect(fleet.catalog_conninfo(OPERATOR)) as conn:
        drive(conn, register_agent(agent, tenant))


def test_an_agent_of_ones_own_naming(laid_out, router, tenant, other):
    """It is found, for ever; entering it again changes nothing, another tenant is refused."""
    agent = f"worker/{tenant}"
    with pytest.raises(UnknownAgent, match="register it first"):
        router.tenant_of_agent(agent)
    enter(laid_out, agent, tenant)
    enter(laid_out, agent, tenant)
    assert router.tenant_of_agent(agent) == tenant
    with pytest.raises(AlreadyExists, match="another tenant"):
        enter(laid_out, agent, other)
    with psycopg.connect(laid_out.catalog_conninfo(OPERATOR)) as conn:
        conn.execute("DELETE FROM tenantry.agents WHERE agent_id = %s", (agent,))
    assert router.tenant_of_agent(agent) == tenant


async def test_the_async_door_asks_the_same(laid_out, tenant):
    """One directory, two doors."""
    agent = f"async/{tenant}"
    enter(laid_out, agent, tenant)
    async with AsyncRouter(laid_out.catalog_conninfo()) as router:
        assert await router.tenant_of_agent(agent) == tenant
        assert await router.tenant_of_agent(agent) == tenant


def test_an_unregistered_tenant_has_no_agents(laid_out):
    """The directory names no tenant that is not there."""
    nobody = "00000000-0000-4000-8000-00000000dead"
    with pytest.raises(UnknownTenant, match="create it before"):
        enter(laid_out, "somebody", nobody)


@pytest.mark.parametrize("agent", ["", "x" * 201, "nul\0", 7, None])
def test_what_cannot_be_an_agent(router, agent):
    """Refused by name before anything is asked."""
    with pytest.raises(InvalidKey, match="1 to 200 characters"):
        router.tenant_of_agent(agent)


def test_a_router_that_closes_leaves_the_list(laid_out):
    """Operators see only routers that are there."""
    count = "SELECT count(*) FROM tenantry.routers WHERE application = 'goodbye'"
    with connect(laid_out.catalog_conninfo(OPERATOR)) as conn:
        with Router(laid_out.catalog_conninfo(), application="goodbye") as router:
            while conn.execute(count).fetchone() != (1,):
                assert router.map.version
        assert conn.execute(count).fetchone() == (0,)
