"""A real PgBouncer in front of the session's fleet, and of databases that a test may break."""

from __future__ import annotations

import pytest

from tenantry_ops.bouncer.embedded import Embedded
from tenantry_ops.bouncer.source import find_program, installed_version
from tenantry_schema.naming import APP, OPERATOR, READ


def pytest_addoption(parser):
    parser.addoption("--pgbouncer", help="the PgBouncer to test, default the installed one")
    parser.addoption(
        "--through-bouncer", action="store_true", help="let every router go through a PgBouncer"
    )


def pytest_report_header(config):
    program = find_program(config.getoption("--pgbouncer"))
    return f"pooler: PgBouncer {installed_version(program)} from {program}"


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
