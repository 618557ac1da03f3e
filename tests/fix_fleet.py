"""Real servers: one fleet for the whole session, databases made anew where a test needs them."""

from __future__ import annotations

import itertools
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tenantry_ops.fleet import Fleet, find_programs
from tenantry_ops.initialise import embedded_plan, initialise
from tenantry_schema.naming import OPERATOR, OWNER
from tenantry_schema.roles import database_statements

_MEMORY = Path("/dev/shm")
_ROOM = 2 << 30
_numbers = itertools.count()


def pytest_addoption(parser):
    parser.addoption("--pg-bin", help="folder of the server programs to test on")


def pytest_report_header(config):
    found = find_programs(config.getoption("--pg-bin"))
    return f"servers: Postgres {found.version} from {found.source}"


@contextmanager
def server_folder():
    """Give a folder that every user may enter: in memory, where there is room for its files."""
    place = _MEMORY if _MEMORY.is_dir() and _room(_MEMORY) > _ROOM else None
    with tempfile.TemporaryDirectory(prefix="tenantry-test-", dir=place) as made:
        Path(made).chmod(0o755)
        yield Path(made)


def _room(place):
    free = os.statvfs(place)
    return free.f_bavail * free.f_frsize


@contextmanager
def passing_fleet(config, **options):
    """A fleet of the tested Postgres in a folder of its own."""
    with server_folder() as directory:
        with Fleet.up(directory, pg_bin=config.getoption("--pg-bin"), **options) as running:
            yield running
            running.discard()


@pytest.fixture(scope="session")
def fleet(pytestconfig):
    """Two shards of a primary and a streaming replica each."""
    with passing_fleet(pytestconfig) as running:
        yield running


@pytest.fixture
def folder():
    """A folder for a fleet of the test's own, which is removed whatever is left of it."""
    with server_folder() as place:
        yield place
        if (place / "fleet.toml").exists():
            Fleet.load(place).discard()


@pytest.fixture(scope="session")
def laid_out(fleet, in_front):
    """The same fleet with a catalog and 16 buckets."""
    initialise(embedded_plan(fleet, buckets=16))
    with in_front(fleet):
        yield fleet


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
    with new_database(fleet, server, name):
        yield Database(
            name,
            fleet.superuser_conninfo(server, name),
            fleet.conninfo(server, user=OPERATOR, dbname=name),
            fleet.conninfo(server, user="tenantry_app", dbname=name),
        )


@contextmanager
def new_database(fleet, server, name, template="template1"):
    """Make a database with the fleet's roles let in, as a copy of another; drop it at the end."""
    target = sql.Identifier(name)
    with psycopg.connect(fleet.superuser_conninfo(server), autocommit=True) as conn:
        conn.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} STRATEGY file_copy").format(
                target, sql.Identifier(OWNER), sql.Identifier(template)
            )
        )
        for statement in database_statements(name):
            conn.execute(statement)
        yield
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(target))
