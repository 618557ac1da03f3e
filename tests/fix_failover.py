"""Fleets that a test may break, and writers that remember what was acknowledged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from fix_bouncer import lead
from fix_fleet import passing_fleet, server_folder
from fix_processes import children

from tenantry import Query, Receipt, Router, mint_agent_id
from tenantry.replicas.news import wait_for_news
from tenantry_ops.doctor import examine, gather_facts
from tenantry_ops.fleet import Fleet
from tenantry_ops.initialise import embedded_plan, initialise
from tenantry_ops.tenants import create
from tenantry_schema.naming import APP, OPERATOR, SHARD_DATABASE

AGENT = "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, 'a')"


@pytest.fixture(scope="module")
def own_fleet(pytestconfig):
    """Make laid-out fleets of a module's own; the catalog lies on the first shard."""
    made = []
    folders = ExitStack()

    def make(shards=1, replicas=1):
        fleet = Fleet.up(
            folders.enter_context(server_folder()),
            shards=shards,
            replicas=replicas,
            pg_bin=pytestconfig.getoption("--pg-bin"),
        )
        made.append(fleet)
        initialise(embedded_plan(fleet, buckets=2))
        for shard in range(shards):
            superuser = anywhere(fleet, shard, user="postgres")
            with psycopg.connect(superuser, autocommit=True) as conn:
                conn.execute("CREATE TABLE public.acknowledged (writer int, number int)")
                conn.execute("GRANT ALL ON public.acknowledged TO tenantry_app")
        return fleet

    yield make
    for fleet in made:
        fleet.discard()
    folders.close()


def anywhere(fleet, shard=0, user=APP, **more):
    """Return the multi-host conninfo of a shard's primary, whichever that is."""
    servers = fleet.shards[shard].servers
    return psycopg.conninfo.make_conninfo(
        host=",".join(it.host for it in servers),
        port=",".join(str(it.port) for it in servers),
        user=user,
        dbname=SHARD_DATABASE,
        passfile=str(fleet.passfile),
        **{"target_session_attrs": "read-write", **more},
    )


class Writer(threading.Thread):
    """Inserts numbers one by one; keeps those whose COMMIT came back cleanly."""

    def __init__(self, number, conninfo):
        super().__init__()
        self.number = number
        self.acknowledged = []
        self.errors = 0
        self._conninfo = conninfo
        self._stopped = threading.Event()
        self.wrote = threading.Condition()

    def run(self):
        number = 0
        conn = None
        while not self._stopped.is_set():
            number += 1
            try:
                conn = conn or psycopg.connect(
                    self._conninfo, connect_timeout=5, prepare_threshold=None
                )
                conn.execute("SET search_path = public")
                conn.execute("INSERT INTO acknowledged VALUES (%s, %s)", (self.number, number))
                conn.commit()
            except psycopg.Error:
                self.errors += 1
                conn = None if conn is None or conn.closed else conn.close()
                self._stopped.wait(0.01)
                continue
            with self.wrote:
                self.acknowledged.append(number)
                self.wrote.notify_all()
        if conn is not None:
            conn.close()

    def await_more(self, count=20):
        """Wait until so many more rows were acknowledged."""
        with self.wrote:
            wanted = len(self.acknowledged) + count
            assert self.wrote.wait_for(lambda: len(self.acknowledged) >= wanted, 30)

    def end(self):
        self._stopped.set()
        self.join()


@contextmanager
def writing(conninfo, count=4):
    """Write from some threads; afterwards every acknowledged row must be there, once."""
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute("DELETE FROM public.acknowledged")
    writers = [Writer(number, conninfo) for number in range(count)]
    for it in writers:
        it.start()
    try:
        for it in writers:
            it.await_more()
        yield writers
        for it in writers:
            it.await_more()
    finally:
        for it in writers:
            it.end()


def lost(conninfo, writers):
    """Return what was acknowledged and is not there."""
    with psycopg.connect(conninfo, autocommit=True) as conn:
        there = set(conn.execute("SELECT writer, number FROM public.acknowledged"))
    return {(it.number, number) for it in writers for number in it.acknowledged} - there


def names(fleet, role, shard="shard-1"):
    """Return the servers of a shard that have a role, as Postgres says."""
    return [it["name"] for it in fleet.status() if (it["shard"], it["role"]) == (shard, role)]


def findings(fleet):
    """Return what the doctor says of each object."""
    found = examine(gather_facts(fleet.catalog_conninfo(OPERATOR)))
    return {it.object: it.problem for it in found}


def last_said(fleet, lines=40):
    """Return the ends of all servers' logs: what a failed test in CI leaves to look at."""
    return "\n".join(
        line for it in fleet.servers for line in it.log.read_text().splitlines()[-lines:]
    )


def tenantry(fleet, *arguments):
    """Call the command line as an operator of the fleet."""
    return subprocess.run(
        [sys.executable, "-m", "tenantry_ops", *arguments, "--dir", str(fleet.directory)],
        capture_output=True,
        text=True,
        check=False,
    )


def server(fleet, name):
    return next(it for it in fleet.servers if it.name == name)


def freeze(server):
    """Stop a server and all its processes, as a hung machine does; return them."""
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    everyone = [pid, *children(pid)]
    for it in everyone:
        os.kill(it, signal.SIGSTOP)
    return everyone


def kill_at(fleet, step, verb, **arguments):
    """Run a change of primary in a process of its own, which is killed before a step."""
    child = Path(__file__).parent / "integration" / "failover" / "child.py"
    ended = subprocess.run(
        [sys.executable, str(child), str(fleet.directory), str(step), verb, json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr


class Stage:
    """One shard of a primary and a replica, a tenant, and a router that stays open.

    :ivar pooler: what the router goes through, or None
    """

    def __init__(self, fleet, router, tenant, pooler):
        self.fleet, self.router, self.tenant, self.pooler = fleet, router, tenant, pooler
        (shard,) = fleet.shards
        self.old, (self.new,) = shard.primary, shard.replicas

    def superuser(self, server):
        conninfo = self.fleet.superuser_conninfo(server, SHARD_DATABASE)
        return psycopg.connect(conninfo, autocommit=True)

    def kill(self, server):
        """End a server at once, as a crash does."""
        handle = os.pidfd_open(server.pid)
        os.kill(server.pid, signal.SIGQUIT)
        self.fleet._children[server.name].wait(30)
        os.close(handle)

    def promote(self):
        with self.superuser(self.new) as conn:
            assert conn.execute("SELECT pg_promote()").fetchone() == (True,)
        self.lead(self.new)

    def lead(self, server):
        """Let the pooler, if there is one, lead to a server, as who changes the primary does."""
        lead(self.pooler, self.fleet.shards[0].name, server)

    def tells(self, receipt, server):
        """Say whether a receipt names a server, or the pooler's entry, which leads to one."""
        port = server.port if self.pooler is None else self.pooler.pooler.port
        return f":{port}/" in receipt.node

    def write(self, **options):
        """Write one row; return its receipt."""
        receipt = Receipt()
        agent = mint_agent_id(self.tenant)

        def work():
            yield Query(AGENT, (self.tenant, agent))

        self.router.run(work, tenant=self.tenant, token=True, receipt=receipt, **options)
        return receipt

    def count(self, **options):
        def work():
            rows = yield Query("SELECT count(*) FROM agents")
            return rows[0][0]

        return self.router.run(work, tenant=self.tenant, **options)

    def until(self, holds):
        """Wait for what the sampler is to find."""
        watch = self.router._lookout.watch(next(iter(self.router.map.shards.values())))
        for _ in range(300):
            if holds(watch.state):
                return watch.state
            wait_for_news(watch, 0.1)
        raise AssertionError(watch.summary(0.0))


@pytest.fixture
def stage(pytestconfig, in_front):
    with passing_fleet(pytestconfig, shards=1) as fleet:
        initialise(embedded_plan(fleet, buckets=2))
        tenant = uuid4()
        create(fleet.catalog_conninfo(OPERATOR), "acme", str(tenant))
        with in_front(fleet) as pooler, Router(fleet.catalog_conninfo()) as router:
            made = Stage(fleet, router, tenant, pooler)
            made.until(lambda state: state.settled and state.replicas)
            yield made
