"""The Docker fleet, made by its own scripts and its own command, is what the embedded one is."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from compose_machine import Machine, make_primary, primary, replica
from fix_fleet import passing_fleet

from tenantry_ops.fleet.programs import find_programs
from tenantry_ops.fleet.secrets import ROLES as LOGINS
from tenantry_schema.naming import CATALOG_DATABASE, SHARD_DATABASE

pytestmark = pytest.mark.slow

ROLES = """
SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication,
    rolbypassrls, rolconfig,
    (SELECT array_agg(roleid::regrole::text) FROM pg_auth_members WHERE member = it.oid)
FROM pg_roles AS it WHERE rolname !~ '^pg_' ORDER BY rolname
"""
DATABASES = """
SELECT datname, datdba::regrole::text, datcollate, datctype, encoding, datacl::text
FROM pg_database WHERE datname !~ '^(test|init)_' ORDER BY datname
"""
SETTINGS = """
SELECT name, setting FROM pg_settings WHERE source = 'command line' AND name NOT IN
    ('cluster_name', 'config_file', 'data_directory', 'port', 'unix_socket_directories')
UNION ALL SELECT 'data_checksums', current_setting('data_checksums') ORDER BY name
"""
SECRETS = """
SELECT (SELECT array_agg(DISTINCT auth_method) FROM pg_hba_file_rules),
    (SELECT bool_and(rolpassword LIKE 'SCRAM-SHA-256$%') FROM pg_authid WHERE rolcanlogin)
"""
STREAMS = """
SELECT application_name, state, slot_name::text
FROM pg_stat_replication AS it JOIN pg_replication_slots ON active_pid = it.pid
"""


@pytest.fixture(scope="module")
def machine(project, pytestconfig):
    programs = find_programs(pytestconfig.getoption("--pg-bin"))
    with tempfile.TemporaryDirectory(prefix="tenantry-") as made, ExitStack() as stack:
        Path(made).chmod(0o755)
        machine = Machine(project, Path(made), programs)
        for shard in project.shards:
            first, second = (node.name for node in shard.nodes)
            make_primary(machine, first)
            stack.enter_context(primary(machine, first))
            # What a copy that was cut off leaves: a folder that looks like a server's.
            left = machine.server(second).data_dir.with_suffix(".new")
            machine.run("mkdir", "--parents", str(left / "base"))
            machine.run("cp", str(machine.server(first).data_dir / "PG_VERSION"), str(left))
            with replica(machine, second, machine.here(f"host={first}")):
                pass
            # It was copied: it starts again with nothing to copy from.
            stack.enter_context(replica(machine, second, "host=nowhere.invalid"))
        yield machine


@pytest.fixture(scope="module")
def fleet(pytestconfig):
    """One that nothing was laid out on, and that no PgBouncer was introduced to."""
    with passing_fleet(pytestconfig) as running:
        yield running


def ask(conninfo, question):
    with psycopg.connect(conninfo) as conn:
        return conn.execute(question).fetchall()


def test_roles_databases_and_settings_are_the_embedded_ones(machine, fleet):
    """As the servers' own catalogs tell, on every shard."""
    for ours, theirs in zip(machine.project.shards, fleet.shards, strict=True):
        for question in (ROLES, DATABASES, SETTINGS, SECRETS):
            found = ask(machine.conninfo(ours.nodes[0].name), question)
            assert found == ask(fleet.superuser_conninfo(theirs.primary), question)
        copied = ask(machine.conninfo(ours.nodes[1].name), SETTINGS)
        assert copied == ask(fleet.superuser_conninfo(theirs.replicas[0]), SETTINGS)


@pytest.mark.parametrize("role", LOGINS)
def test_a_role_enters_with_its_own_word_only(machine, role):
    """Over TCP and on the socket, by SCRAM."""
    name = machine.project.shards[0].nodes[0].name
    dbname = "postgres" if role in LOGINS[:2] else SHARD_DATABASE
    for host in ("127.0.0.1", machine.server(name).host):
        conninfo = machine.conninfo(name, role, dbname, host)
        assert ask(conninfo, "SELECT current_user") == [(role,)]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(conninfo, password="wrong")


def test_replicas_stream_from_slots_of_their_own(machine, fleet):
    """As the embedded ones do; a copy that was cut off left nothing."""
    for ours, theirs in zip(machine.project.shards, fleet.shards, strict=True):
        first, second = (machine.conninfo(node.name) for node in ours.nodes)
        streams = ask(first, STREAMS)
        assert streams == ask(fleet.superuser_conninfo(theirs.primary), STREAMS)
        assert [(name, state) for name, state, _ in streams] == [(ours.nodes[1].name, "streaming")]
        assert ask(second, "SELECT pg_is_in_recovery()") == [(True,)]
        volume = machine.server(ours.nodes[1].name).data_dir.parent
        assert {it.name for it in volume.iterdir()} == {"docker", "docker.log", "passfile"}
        assert (volume / "passfile").stat().st_mode & 0o777 == 0o600


def test_the_command_makes_a_fleet_once(machine):
    """Its text as it is, through the image's entrypoint; the next start finds what was made."""
    service = machine.project.services["tenantry"]
    environment = machine.environment("tenantry")
    environment["TENANTRY_CATALOG"] = machine.here(environment["TENANTRY_CATALOG"])
    run = ["sh", str(machine.scripts / "with-password.sh")]
    *shell, _ = service["command"]

    def tenantry(*command):
        # Not as the servers' user, which may not reach the virtual environment.
        return machine.run(*run, *command, env=environment, user=None, group=None)

    made = tenantry(*shell, machine.here(machine.project.command))
    assert "64 buckets on 2 shards" in made
    found = tenantry(*shell, machine.here(machine.project.command))
    assert "is there already: nothing was changed" in found
    assert json.loads(tenantry("tenantry", "doctor", "--json"))["findings"] == []
    (created,) = json.loads(tenantry("tenantry", "tenants", "create", "acme", "--json"))
    assert created["shard"] in {shard.name for shard in machine.project.shards}
    catalog = machine.conninfo("shard-1-a", "tenantry_operator", CATALOG_DATABASE)
    nodes = ask(catalog, "SELECT name, host FROM tenantry.nodes ORDER BY name")
    assert [name for name, _ in nodes] == list(machine.project.servers)


def test_no_password_reached_a_log_or_a_setting(machine):
    """Verifiers only, and the password file's name instead of what is in it."""
    words = list(machine.project.secrets.values())
    texts = [it.read_text() for it in machine.folder.glob("*/18/docker.log")]
    texts += [it.read_text() for it in machine.folder.glob("*/18/docker/postgresql.auto.conf")]
    assert len(texts) == 2 * len(machine.project.servers)
    assert not [word for word in words for text in texts if word in text]
