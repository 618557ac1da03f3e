"""Servers with pg_partman, and sets that it began: 4.7 on Debian's Postgres 15, and 5 on 18."""

from __future__ import annotations

import os

import psycopg
import pytest
from fix_fleet import server_folder
from fix_partitions import EVENTS, Alone
from typer.testing import CliRunner

from tenantry_ops.cli.partitions import app
from tenantry_ops.fleet import Fleet
from tenantry_partitions.budget import Budget
from tenantry_partitions.partman import adopted_policy, diagnose, find_extension, read_sets
from tenantry_partitions.session import prepare

PG_BIN = "/usr/lib/postgresql/15/bin"


def pytest_addoption(parser):
    parser.addoption(
        "--partman5",
        help="a folder with extension/pg_partman.control of version 5; without it those tests skip",
    )


@pytest.fixture(scope="session")
def debian():
    """One server, whatever `--pg-bin` says: pg_partman comes with Debian's."""
    with server_folder() as directory:
        with Fleet.up(directory, shards=1, replicas=0, pg_bin=PG_BIN) as running:
            yield running.superuser_conninfo(running.shards[0].primary)
            running.discard()


class WithPartman(Alone):
    """A database with pg_partman."""

    def create_parent(self, interval, *, table="public.events", **more):
        given = {"p_parent_table": table, "p_control": "at", "p_type": "native"}
        given |= {"p_interval": interval, **more}
        arguments = ", ".join(f"{name} := {value!r}" for name, value in given.items())
        self.run(f"SELECT partman.create_parent({arguments})")

    def run_maintenance(self, table="public.events"):
        """pg_partman's own, of one set, in UTC."""
        self.run(f"SELECT partman.run_maintenance('{table}', p_analyze := false)")

    def config(self, column, table="public.events"):
        found = self.run(f"SELECT {column} FROM partman.part_config WHERE parent_table = '{table}'")
        return found[0][0]

    def configure(self, assignment, table="public.events"):
        self.run(f"UPDATE partman.part_config SET {assignment} WHERE parent_table = '{table}'")


class WithPartman5(WithPartman):
    """A database with pg_partman 5, which knows native partitions only, and says so no more."""

    def create_parent(self, interval, *, table="public.events", **more):
        given = {"p_parent_table": table, "p_control": "at", "p_interval": interval, **more}
        arguments = ", ".join(f"{name} := {value!r}" for name, value in given.items())
        self.run(f"SELECT partman.create_parent({arguments})")


@pytest.fixture
def partman(debian):
    """An empty `public.events`, and pg_partman 4.7 without any set."""
    return emptied(WithPartman(debian, Budget(total=3)))


@pytest.fixture(scope="session")
def newest(pytestconfig):
    """The wheel's Postgres: from 18 on an extension may lie anywhere (extension_control_path)."""
    folder = pytestconfig.getoption("--partman5")
    if folder is None:
        assert "CI" not in os.environ, "nothing is skipped in CI: give --partman5"
        pytest.skip("no pg_partman 5: give --partman5")
    with server_folder() as directory:
        with Fleet.up(directory, shards=1, replicas=0) as running:
            conninfo = running.superuser_conninfo(running.shards[0].primary)
            with psycopg.connect(conninfo, autocommit=True) as conn:
                conn.execute(f"ALTER SYSTEM SET extension_control_path = '{folder}:$system'")
                conn.execute("SELECT pg_reload_conf()")
            yield conninfo
            running.discard()


@pytest.fixture
def partman5(newest):
    """An empty `public.events`, and pg_partman 5 without any set."""
    return emptied(WithPartman5(newest, Budget(total=3)))


def call(partman, *arguments, group=app):
    """Call a command on a database."""
    return CliRunner().invoke(group, [*arguments, "--dsn", partman.conninfo])


def adopted(partman):
    with psycopg.connect(partman.conninfo, autocommit=True) as conn:
        prepare(conn, partman.budget)
        (given,) = read_sets(conn, find_extension(conn))
        return adopted_policy(conn, given)


def diagnosed(partman):
    with psycopg.connect(partman.conninfo, autocommit=True) as conn:
        prepare(conn, partman.budget)
        return {it.kind: it for _, it in diagnose(conn)}


def emptied(found):
    with psycopg.connect(found.conninfo, autocommit=True) as conn:
        conn.execute("DROP EXTENSION IF EXISTS pg_partman")
        for schema in ("partman", "public", "tenantry"):
            conn.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        conn.execute("CREATE SCHEMA public")
        conn.execute("CREATE SCHEMA partman")
        conn.execute("CREATE EXTENSION pg_partman SCHEMA partman")
    found.run(EVENTS)
    return found
