"""Real servers: one fleet for the whole session, databases made anew where a test needs them."""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tenantry_ops.fleet import Fleet, find_programs
from tenantry_ops.initialise import embedded_plan, initialise
from tenantry_schema.naming import OPERATOR, OWNER
from tenantry_schema.roles import database_statements

_numbers = itertools.count()


def pytest_addoption(parser):
    parser.addoption("--pg-bin", help="folder of the server programs to test on")


def pytest_report_header(config):
    found = find_programs(config.getoption("--pg-bin"))
    return f"servers: Postgres {found.version} from {found.source}"


@pytest.fixture(scope="session")
def fleet(pytestconfig):
    """Two shards of a primary and a streaming replica each."""
    # pytest closes its own folders to all others at every start: also to another run's servers.
    with tempfile.TemporaryDirectory(prefix="tenantry-tests-") as directory:
        Path(directory).chmod(0o755)
        with Fleet.up(directory, pg_bin=pytestconfig.getoption("--pg-bin")) as running:
            yield running
            running.discard()


@pytest.fixture(scope="session")
def laid_out(fleet):
    """The same fleet with a catalog and 16 buckets."""
    initialise(embedded_plan(fleet, buckets=16))
    return fleet


@dataclass(frozen=True)
class Database:
    name: str
    superuser: str
    operator: str
    app: str


@pytest.fixture
def database(fleet):
    """A new, empty database of the first shard, with the fleet's roles let in."""
    server = fleet.shards[0].primary
    name = f"test_{next(_numbers)}"
    with psycopg.connect(fleet.superuser_conninfo(server), autocommit=True) as conn:
        conn.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(
                sql.Identifier(name), sql.Identifier(OWNER)
            )
        )
        for statement in database_statements(name):
            conn.execute(statement)
    yield Database(
        name,
        fleet.superuser_conninfo(server, name),
        fleet.conninfo(server, user=OPERATOR, dbname=name),
        fleet.conninfo(server, user="tenantry_app", dbname=name),
    )
    with psycopg.connect(fleet.superuser_conninfo(server), autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
