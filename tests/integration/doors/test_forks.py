"""A router that a forked process inherits."""

from __future__ import annotations

import subprocess
import sys

import pytest

FORKED = """
import os, sys
from datetime import timedelta
from tenantry import Query, Router, RouterClosed, Stale

def backends(router):
    "Return the sessions of the primary and of a replica that answer."
    wait = Stale(seconds=60, otherwise="wait", wait=timedelta(seconds=20))
    return {router.run(pid, tenant=tenant, read=read) for read in (None, wait)}

def pid():
    ((found,),) = yield Query("SELECT pg_backend_pid()")
    return found

def in_child(inherited):
    try:
        inherited.where(tenant=tenant)
    except RouterClosed:
        inherited.close()
    with inherited, Router(catalog) as own:
        assert not backends(inherited) & before
        assert not backends(own) & before

catalog, tenant = sys.argv[1:]
with Router(catalog) as router:
    before = backends(router)
    child = os.fork()
    if child == 0:
        in_child(router)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert backends(router) == before
"""


@pytest.mark.direct
def test_a_fork_has_connections_of_its_own(laid_out, tenant):
    """Two processes on one connection would read each other's tenants."""
    command = [sys.executable, "-W", "ignore", "-c", FORKED, laid_out.catalog_conninfo()]
    subprocess.run([*command, str(tenant)], check=True, timeout=60)
