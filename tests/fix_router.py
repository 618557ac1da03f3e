"""Routers on the laid-out fleet, and tenants that live in it."""

from __future__ import annotations

import time
from uuid import UUID, uuid4

import pytest

from tenantry import Router
from tenantry_ops.tenants import create
from tenantry_schema.naming import OPERATOR


@pytest.fixture(scope="session")
def router(laid_out):
    with Router(laid_out.catalog_conninfo(), pool_size=8, poll_interval=0.2) as opened:
        yield opened


@pytest.fixture
def tenant(laid_out) -> UUID:
    return make_tenant(laid_out)


@pytest.fixture
def other(laid_out) -> UUID:
    return make_tenant(laid_out)


def make_tenant(fleet) -> UUID:
    key = uuid4()
    create(fleet.catalog_conninfo(OPERATOR), f"t-{key.hex[:20]}", str(key))
    return key


def until(holds, seconds=10):
    """Wait for what another thread does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)
