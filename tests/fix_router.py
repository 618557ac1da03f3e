"""Routers on the laid-out fleet, and tenants that live in it."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from contextlib import contextmanager
from functools import partial
from uuid import UUID, uuid4

import pytest

from tenantry import AsyncRouter, Router
from tenantry.replicas.news import wait_for_news
from tenantry_ops.tenants import create
from tenantry_schema.naming import OPERATOR


@pytest.fixture(scope="session")
def router(laid_out):
    with Router(laid_out.catalog_conninfo(), pool_size=8, poll_interval=0.2) as opened:
        yield opened


@pytest.fixture
def narrow(laid_out):
    """A router with one connection to each node."""
    with Router(laid_out.catalog_conninfo(), pool_size=1) as router:
        yield router


def until_asked(router, tenant, conn):
    """Wait until the sampler has asked the tenant's replica since a connection to it is there."""
    watch = router._lookout.watch(router.map.shards[router.where(tenant=tenant).shard])
    while watch.state.replicas[0].sent < conn.since:
        wait_for_news(watch, 1.0)


class Awaited:
    """An async router whose coroutines are called as functions, from any thread but its loop's."""

    def __init__(self, loop, router):
        self._loop, self._router = loop, router

    def __getattr__(self, name):
        found = getattr(self._router, name)
        return partial(self._call, found) if inspect.iscoroutinefunction(found) else found

    def _call(self, function, *arguments, **named):
        return asyncio.run_coroutine_threadsafe(function(*arguments, **named), self._loop).result()


@contextmanager
def awaited(*arguments, **options):
    """Open an async router on a loop of its own."""
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        router = Awaited(loop, AsyncRouter(*arguments, **options))
        try:
            router.open()
            try:
                yield router
            finally:
                router.close()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


@pytest.fixture(scope="session", params=[Router, awaited], ids=["sync", "async"])
def opened(request):
    """What opens a router of either colour, as a context manager."""
    return request.param


@pytest.fixture(scope="session")
def door(opened, laid_out, router):
    """A router of either colour, which stays open."""
    if opened is Router:
        yield router
        return
    with opened(laid_out.catalog_conninfo(), poll_interval=0.2) as made:
        yield made


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


def until(holds, seconds=30):
    """Wait for what another thread does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)
