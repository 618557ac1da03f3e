"""A switchover behind a real PgBouncer: clients wait, and none sees an error."""

from __future__ import annotations

import subprocess
import sys

import psycopg
import pytest
from fix_failover import anywhere, lost, names, writing

from tenantry_ops.bouncer.embedded import Embedded
from tenantry_ops.failover import FleetHands, switchover
from tenantry_ops.failover.pooled import BouncerGate
from tenantry_schema.errors import FailoverUnfinished
from tenantry_schema.naming import APP, OPERATOR

pytestmark = pytest.mark.slow

ENTRY = "shard-1"


@pytest.fixture(scope="module")
def fleet(own_fleet):
    return own_fleet()


@pytest.fixture(scope="module")
def bouncer(fleet, program):
    made = Embedded.of(fleet)
    child = made.up(program=program)
    yield made
    made.discard()
    child.wait()


@pytest.fixture
def conninfo(fleet, bouncer):
    """Where clients find the shard's primary, whichever it is."""
    return psycopg.conninfo.make_conninfo(
        host=fleet.state.sockets,
        port=bouncer.pooler.port,
        user=APP,
        dbname=ENTRY,
        passfile=str(fleet.passfile),
    )


def test_clients_of_a_pooler_see_no_error(fleet, conninfo):
    """Both ways, by the command, under four writers: they wait for the switch, and lose nothing."""
    for target in ("shard-1-b", "shard-1-a"):
        with writing(conninfo) as writers:
            command = ["shard", "switchover", ENTRY, "--to", target, "--dir", str(fleet.directory)]
            subprocess.run([sys.executable, "-m", "tenantry_ops", *command], check=True)
        assert [it.errors for it in writers] == [0] * 4
        assert lost(anywhere(fleet), writers) == set()


def test_a_pause_that_does_not_come_is_taken_back(fleet, bouncer, conninfo):
    """A transaction outlives the deadline: the old primary stays, and clients go on."""
    (primary,) = names(fleet, "primary")
    (other,) = names(fleet, "replica")
    with psycopg.connect(conninfo) as conn:
        conn.execute("INSERT INTO public.acknowledged VALUES (-2, -2)")
        with pytest.raises(FailoverUnfinished, match=f"{primary} is primary as before"):
            switchover(
                fleet.catalog_conninfo(OPERATOR),
                "shard-1",
                other,
                hands=FleetHands(fleet),
                gates=[BouncerGate([bouncer.pooler], ENTRY)],
                pause_s=0.5,
            )
        conn.commit()
    assert names(fleet, "primary") == [primary]
    with writing(conninfo) as writers:
        assert [it.errors for it in writers] == [0] * 4
