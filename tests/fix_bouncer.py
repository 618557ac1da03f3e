"""A real PgBouncer in front of the session's fleet, and of databases that a test may break."""

from __future__ import annotations

import itertools
import shutil
from functools import partial

import psycopg
import pytest
from crowd import Crowd

from tenantry_ops.bouncer.embedded import Embedded
from tenantry_ops.bouncer.render import PASSFILE, USERLIST
from tenantry_ops.bouncer.source import find_program, installed_version
from tenantry_schema.naming import APP, OPERATOR, READ


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
    if config.getoption("--through-bouncer"):
        through = [it for it in items if _routes(it) and not it.get_closest_marker("direct")]
        config.hook.pytest_deselected(items=[it for it in items if it not in through])
        items[:] = through


def _routes(item):
    """Say whether a test's servers are those that the pooler knows, and it has no pooler itself."""
    return "laid_out" in item.fixturenames and "own" not in item.fixturenames


@pytest.fixture(scope="session")
def program(pytestconfig):
    return find_program(pytestconfig.getoption("--pgbouncer"))


@pytest.fixture(scope="session")
def bouncer(laid_out, program):
    """A PgBouncer with an entry for each shard and each node; operators may come through it."""
    made = Embedded.of(laid_out)
    child = made.up(program=program, settings={"users": [APP, READ, OPERATOR], "kept_direct": 100})
    yield made
    made.discard()
    child.wait()


_numbers = itertools.count()


@pytest.fixture
def own(bouncer, program):
    """Another PgBouncer of the same fleet, for a test that changes it."""
    made = Embedded(bouncer.fleet, bouncer.fleet.directory / f"bouncer-{next(_numbers)}")
    made.directory.mkdir()
    # All poolers of a fleet ask with one password.
    shutil.copy(bouncer.directory / USERLIST, made.directory)
    shutil.copy(bouncer.directory / PASSFILE, made.directory)
    child = made.up(program=program, settings={"kept_direct": 100})
    yield made
    made.discard()
    child.wait()


@pytest.fixture(scope="session")
def pooler(bouncer) -> str:
    """Where it is, as routers are told."""
    return f"host={bouncer.fleet.state.sockets} port={bouncer.pooler.port}"


@pytest.fixture(scope="session", autouse=True)
def _through_bouncer(request):
    if not request.config.getoption("--through-bouncer"):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENANTRY_POOLER", request.getfixturevalue("pooler"))
        yield


@pytest.fixture(autouse=True)
def _past_bouncer(request, monkeypatch):
    if request.node.get_closest_marker("direct"):
        monkeypatch.delenv("TENANTRY_POOLER", raising=False)


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
