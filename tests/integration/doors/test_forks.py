"""A router that a forked process inherits."""

from __future__ import annotations

import subprocess
import sys

import pytest

FORKED = """
import os, sys
from datetime import timedelta
from tenantry import Router, RouterClosed, Stale

def sockets(router):
    "Return the sockets over which the primary and a replica answer."
    wait = Stale(seconds=60, otherwise="wait", wait=timedelta(seconds=20))
    found = set()
    for read in (None, wait):
        with router.connection(tenant=tenant, read=read) as conn:
            conn.execute("SELECT 1")
            found.add(os.fstat(conn.fileno()).st_ino)
    return found

def in_child(inherited):
    try:
        inherited.where(tenant=tenant)
    except RouterClosed:
        inherited.close()
    with inherited, Router(catalog) as own:
        assert not sockets(inherited) & before
        assert not sockets(own) & before

catalog, tenant = sys.argv[1:]
with Router(catalog) as router:
    before = sockets(router)
    child = os.fork()
    if child == 0:
        in_child(router)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert sockets(router) == before
"""


@pytest.mark.slow
def test_a_fork_has_connections_of_its_own(laid_out, tenant):
    """Two processes on one connection would read each other's tenants."""
    command = [sys.executable, "-W", "ignore", "-c", FORKED, laid_out.catalog_conninfo()]
    subprocess.run([*command, str(tenant)], check=True, timeout=60)
