"""Who may log in through a real PgBouncer, and what its function tells to whom."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest
from fix_bouncer import connected
from psycopg import sql

from tenantry_ops.bouncer.apply import apply_plan, plan_for
from tenantry_ops.bouncer.auth import (
    auth_password,
    auth_scripts,
    install_auth,
    shared_verifiers,
)
from tenantry_ops.bouncer.merge import Edited
from tenantry_ops.bouncer.render import AUTH_ROLE
from tenantry_ops.bouncer.settings import read_settings
from tenantry_ops.bouncer.source import catalog_source, want
from tenantry_schema.errors import InvalidConfig
from tenantry_schema.naming import APP, OPERATOR, READ

LOGIN = "SELECT * FROM tenantry_bouncer.login(%s)"


@pytest.fixture
def asking(bouncer):
    """A direct connection as the role that PgBouncer asks with."""
    password = auth_password(bouncer.directory)
    primary = bouncer.fleet.shards[0].primary
    conninfo = bouncer.fleet.conninfo(primary, user=AUTH_ROLE)
    with psycopg.connect(conninfo, password=password, autocommit=True) as conn:
        yield conn


@pytest.fixture
def superuser(bouncer):
    primary = bouncer.fleet.shards[0].primary
    conninfo = bouncer.fleet.superuser_conninfo(primary, "tenantry")
    with psycopg.connect(conninfo, autocommit=True) as conn:
        yield conn


@pytest.fixture
def expired(superuser):
    """A role whose password was valid once."""
    superuser.execute("CREATE ROLE expired LOGIN PASSWORD 'x' VALID UNTIL '2020-01-01'")
    yield "expired"
    superuser.execute("DROP ROLE expired")


def source(fleet):
    return catalog_source(fleet.catalog_conninfo(OPERATOR), "postgres")


def test_what_the_function_tells(asking, expired):
    """The verifier of a role that may log in now; of nobody else anything."""
    ((name, secret),) = asking.execute(LOGIN, (APP,)).fetchall()
    assert name == APP
    assert secret.startswith("SCRAM-SHA-256$")
    for hidden in (
        "postgres",
        "tenantry_replication",
        "tenantry_owner",
        expired,
        "nobody",
        "",
        None,
    ):
        assert asking.execute(LOGIN, (hidden,)).fetchall() == []


@pytest.mark.parametrize("user", [APP, READ, OPERATOR])
def test_nobody_else_may_ask(bouncer, user):
    """Not even the operator, who may act as the owner of everything else."""
    conninfo = bouncer.fleet.conninfo(bouncer.fleet.shards[0].primary, user=user)
    with psycopg.connect(conninfo) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(LOGIN, (APP,))


def test_the_asking_role_can_do_nothing_else(asking):
    """No table, no schema, no temporary objects, no roles."""
    for statement in (
        "SELECT * FROM pg_authid",
        "SELECT * FROM fleet.agents",
        "CREATE TEMP TABLE pg_authid (a int)",
        "CREATE SCHEMA mine",
        "CREATE ROLE other",
        "ALTER FUNCTION tenantry_bouncer.login(text) RESET ALL",
        "SET ROLE tenantry_owner",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            asking.execute(statement)


def test_objects_in_the_way_change_nothing(asking, superuser):
    """A table of the same name first on the path: the function's body was parsed long before."""
    superuser.execute("CREATE SCHEMA evil")
    try:
        superuser.execute("CREATE TABLE evil.pg_authid AS SELECT * FROM pg_authid WHERE rolsuper")
        superuser.execute("UPDATE evil.pg_authid SET rolsuper = false")
        superuser.execute("GRANT USAGE ON SCHEMA evil TO PUBLIC")
        superuser.execute("GRANT SELECT ON evil.pg_authid TO PUBLIC")
        asking.execute("SET search_path = evil, pg_catalog")
        assert asking.execute(LOGIN, ("postgres",)).fetchall() == []
    finally:
        superuser.execute("DROP SCHEMA evil CASCADE")


def test_a_new_password_counts_at_once(own, superuser):
    """And the old one no longer: PgBouncer asks at every login."""
    superuser.execute("CREATE ROLE walker LOGIN PASSWORD 'one'")
    superuser.execute("GRANT CONNECT ON DATABASE tenantry TO walker")
    try:
        settings = read_settings(own.directory, {"users": [APP, READ, "walker"]})
        version = plan_version(own)
        made, _ = want(source(own.fleet), settings, version=version, directory=own.directory)
        apply_plan(own.pooler, plan_for(own.directory, made, Edited.REFUSE))
        assert log_in(own, "walker", "one") == "walker"
        superuser.execute("ALTER ROLE walker PASSWORD 'two'")
        assert log_in(own, "walker", "two") == "walker"
        with pytest.raises(psycopg.OperationalError):
            log_in(own, "walker", "one")
        superuser.execute("ALTER ROLE walker VALID UNTIL '2020-01-01'")
        with pytest.raises(psycopg.OperationalError):
            log_in(own, "walker", "two")
    finally:
        superuser.execute("DROP OWNED BY walker; DROP ROLE walker")


def plan_version(own):
    with own.pooler.open() as console:
        return console.version


def log_in(own, user, password):
    conninfo = own.fleet.conninfo(own.fleet.shards[0].primary, user=user, dbname="shard-1")
    with psycopg.connect(conninfo, port=own.pooler.port, password=password) as conn:
        return conn.execute("SELECT current_user").fetchone()[0]


def test_what_a_superuser_is_given_to_run(bouncer, superuser):
    """It holds a verifier, not the password; it may be run again, and leaves the owner's."""
    password = auth_password(bouncer.directory)
    (name, script), _ = auth_scripts(
        source(bouncer.fleet).shards, source(bouncer.fleet).given, password
    )
    assert name == "shard-1"
    assert password not in script
    superuser.execute("ALTER SCHEMA tenantry_bouncer OWNER TO tenantry_operator")
    superuser.execute(script)
    owners = superuser.execute(
        "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'tenantry_bouncer' UNION "
        "SELECT proowner::regrole::text FROM pg_proc WHERE proname = 'login'"
    ).fetchall()
    assert owners == [("postgres",)]
    with connected(bouncer, "shard-1") as conn:
        assert conn.execute("SELECT current_user").fetchone() == (APP,)


def test_only_a_superuser_installs_it(bouncer):
    """Others are refused by Postgres, and nothing is half made."""
    found = source(bouncer.fleet)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        install_auth(found.shards, found.given, auth_password(bouncer.directory))
    with pytest.raises(InvalidConfig, match="tenantry bouncer render"):
        auth_password(bouncer.directory / "nowhere")


def test_verifiers_in_a_list(own):
    """One list serves all shards only where their verifiers are the same."""
    fleet = own.fleet
    found = source(fleet)
    with pytest.raises(InvalidConfig, match="not the same one"):
        shared_verifiers(found.shards, found.superuser, [APP])
    settings = read_settings(own.directory, {"auth": "userlist", "users": [APP]})
    version = plan_version(own)
    with pytest.raises(InvalidConfig, match="--superuser"):
        want(replace(found, superuser=None), settings, version=version, directory=own.directory)
    one_shard = replace(found, shards=found.shards[:1])
    made, _ = want(one_shard, settings, version=version, directory=own.directory)
    plan = plan_for(own.directory, made, Edited.REFUSE)
    assert "SCRAM" not in str([it.shown() for it in plan.changes])
    apply_plan(own.pooler, plan)
    with connected(own, "shard-1") as conn:
        assert conn.execute("SELECT current_user").fetchone() == (APP,)
    with pytest.raises(psycopg.OperationalError):
        log_in(own, READ, "x")
    assert (
        sql.Identifier(AUTH_ROLE).as_string(None)
        not in (own.directory / "pgbouncer.ini").read_text()
    )
