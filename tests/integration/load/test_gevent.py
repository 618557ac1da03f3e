"""A router in a process that gevent patched: its waits and its threads give way to each other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tenantry_loadtest.cooperation import SLEEP_S, SLEEPERS
from tenantry_schema.naming import OPERATOR

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("cooperating.py")

# As a service would do it wrongly: whoever imports psycopg first gets its blocking wait.
TOO_LATE = """
import psycopg, sys
from gevent import monkey
monkey.patch_all()
from uuid import UUID
from tenantry import Router
from tenantry_loadtest.cooperation import interleave
from tenantry_loadtest.history import Seat
with Router(sys.stdin.readline().strip()) as router:
    interleave(router, Seat("x", UUID(int=1), UUID(int=2)))
"""


def run(*arguments, told):
    return subprocess.run(
        [sys.executable, *arguments], input=told, capture_output=True, text=True, check=False
    )


def test_a_router_cooperates(laid_out, tenant):
    """Sleeps in the database overlap; watchdog and follower get their turns."""
    told = {
        "service": laid_out.catalog_conninfo(),
        "operator": laid_out.catalog_conninfo(OPERATOR),
        "tenant": str(tenant),
    }
    ended = run(str(SCRIPT), told=json.dumps(told))
    assert ended.returncode == 0, ended.stderr
    measured = json.loads(ended.stdout)
    assert SLEEP_S <= measured["interleaved"] < SLEEPERS * SLEEP_S / 2
    assert 0.3 <= measured["deadline"] < 3
    assert measured["ticks"] >= 10
    assert measured["followed"] >= 1


def test_a_driver_that_blocks_is_noticed(laid_out):
    """A load that is one user after the other is refused before it begins."""
    ended = run("-c", TOO_LATE, told=laid_out.catalog_conninfo())
    assert ended.returncode == 1
    assert "greenlets do not interleave" in ended.stderr
