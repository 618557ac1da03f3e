"""A real PgBouncer in front of the session's fleet, and of databases that a test may break."""

from __future__ import annotations

import itertools
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import psycopg
import pytest
from crowd import Crowd

from tenantry_ops.bouncer.embedded import Embedded
from tenantry_ops.bouncer.render import PASSFILE, USERLIST
from tenantry_ops.bouncer.source import catalog_source, find_program, installed_version
from tenantry_ops.failover.pooled import BouncerGate
from tenantry_ops.fleet.secrets import SUPERUSER
from tenantry_schema.naming import APP, OPERATOR, READ

#: Operators may come through as well, and most connections are none of routed work.
OPEN = {"users": [APP, READ, OPERATOR], "kept_direct": 100}
_numbers = itertools.count()


def pytest_addoption(parser):
    parser.addoption("--pgbouncer", help="the PgBouncer to test, default the installed one")
    parser.addoption(
        "--through-bouncer",
        action="store_true",
        help="let every router go through a PgBouncer, and run the tests that have one",
    )


def pytest_report_header(config):
    program = find_program(config.getoption("--pgbouncer"))
    return f"pooler: PgBouncer {installed_version(program)} from {program}"


def pytest_collection_modifyitems(config, items):
    """Leave out what a pooler makes no difference to: tests that go past it, or route nothing."""
    direct = {it for it in items if _goes_past(it)}
    if config.getoption("--through-bouncer"):
        through = [it for it in items if _routes(it) and it not in direct]
        config.hook.pytest_deselected(items=[it for it in items if it not in through])
        items[:] = through


def _goes_past(item):
    """Say whether a pooler would be wrong for a test; its marker says why."""
    marker = item.get_closest_marker("direct")
    if marker is not None and not marker.args:
        raise pytest.UsageError(f"{item.nodeid}: direct(reason) says why no pooler may be there")
    return marker is not None


def _routes(item):
    """Say whether a pooler is in front of a test's servers, and the test has none itself."""
    return "in_front" in item.fixturenames and "own" not in item.fixturenames


@pytest.fixture(scope="session")
def program(pytestconfig):
    return find_program(pytestconfig.getoption("--pgbouncer"))


@contextmanager
def running(made, program, **settings):
    """Run a PgBouncer for as long as a block lasts."""
    child = made.up(program=program, settings=settings)
    try:
        yield made
    finally:
        made.discard()
        child.wait()


@pytest.fixture(scope="session")
def bouncer(laid_out, program):
    """A PgBouncer with an entry for each shard and each node; operators may come through it."""
    made = Embedded.of(laid_out)
    if made.pid is not None:
        # Every router goes through it.
        yield made
        return
    with running(made, program, **OPEN):
        yield made


@pytest.fixture
def own(bouncer, program):
    """Another PgBouncer of the same fleet, for a test that changes it."""
    made = Embedded(bouncer.fleet, another_folder(bouncer.fleet))
    with running(made, program, kept_direct=100):
        yield made


def another_folder(fleet):
    """Make the folder of another PgBouncer: all that ask the same servers have one password."""
    first = Embedded.of(fleet).directory
    made = fleet.directory / f"bouncer-{next(_numbers)}"
    made.mkdir()
    for name in (USERLIST, PASSFILE):
        shutil.copy(first / name, made)
    return made


@dataclass(frozen=True, slots=True)
class Beside(Embedded):
    """A PgBouncer of databases that have a catalog of their own, on the session's servers."""

    catalog: str

    def _source(self):
        return catalog_source(self.catalog, SUPERUSER)


@pytest.fixture(scope="session")
def in_front(pytestconfig, program):
    """Put a PgBouncer in front of a fleet for as long as a block lasts, if routers are to have one.

    A catalog is that of databases of their own, on the servers of a fleet that has a PgBouncer.
    """

    @contextmanager
    def put(fleet, catalog=None):
        if not pytestconfig.getoption("--through-bouncer"):
            yield None
            return
        made = (
            Embedded.of(fleet) if catalog is None else Beside(fleet, another_folder(fleet), catalog)
        )
        with running(made, program, **OPEN), pytest.MonkeyPatch.context() as patch:
            patch.setenv("TENANTRY_POOLER", address(made))
            yield made

    return put


def lead(made, entry, server):
    """Let a pooler, where there is one, lead to another server: whoever promotes it does that."""
    if made is not None:
        BouncerGate([made.pooler], entry).lead_to(server.host, server.port)


def rewrite(bouncer, text):
    """Let a pooler take up another configuration, and connect to all its servers anew."""
    (bouncer.directory / "pgbouncer.ini").write_text(text)
    with bouncer.pooler.open() as console:
        console.reload()
        console._run("RECONNECT")


def patiently_connected(conninfo, bouncer):
    """Connect through it; it refuses while a server connection that RECONNECT cut short is away."""
    end, options = time.monotonic() + 30, {"autocommit": True, "prepare_threshold": None}
    while True:
        try:
            return psycopg.connect(conninfo, port=bouncer.pooler.port, **options)
        except psycopg.OperationalError as error:
            if "server_login_retry" not in str(error) or time.monotonic() > end:
                raise


@pytest.fixture(scope="session")
def pooler(bouncer) -> str:
    """Where it is, as routers are told."""
    return address(bouncer)


def address(made):
    return f"host={made.fleet.state.sockets} port={made.pooler.port}"


def connected(own, entry, connect_timeout=20):
    primary = own.fleet.shards[0].primary
    conninfo = own.fleet.conninfo(primary, user=APP, dbname=entry)
    return psycopg.connect(
        conninfo,
        port=own.pooler.port,
        autocommit=True,
        prepare_threshold=None,
        connect_timeout=connect_timeout,
    )


class Load(Crowd):
    """Clients that ask again and again which server they are on."""

    def __init__(self, own, entry, threads=4):
        super().__init__(*[self.run] * threads)
        self.own, self.entry = own, entry
        self.errors = []
        self.seen = []

    def run(self):
        try:
            with connected(self.own, self.entry) as conn:
                while not self.ended.is_set():
                    (name,) = conn.execute("SELECT current_setting('cluster_name')").fetchone()
                    self.note(partial(self.seen.append, name))
        except psycopg.Error as error:
            self.note(partial(self.errors.append, error))

    def await_answers(self, name, times=20):
        self.wait_for(lambda: self.errors or self.seen.count(name) >= times)
        assert self.errors == []

    def check_order(self, old, new):
        # A client may note an old answer after another has noted a new one, but not many.
        late = self.seen[self.seen.index(new) :].count(old)
        assert late <= len(self.threads)
