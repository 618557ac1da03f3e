"""The arithmetic of pools, and what is rendered from it: pure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fix_rendering import node, rendered, settings, two_shards
from hypothesis import given
from hypothesis import strategies as st

from tenantry_ops.bouncer.check import check_ini
from tenantry_ops.bouncer.connstr import parse_pairs
from tenantry_ops.bouncer.hba import hba_problems
from tenantry_ops.bouncer.ini import parse_ini
from tenantry_ops.bouncer.nodes import Facts
from tenantry_ops.bouncer.render import HBA, INI
from tenantry_ops.bouncer.settings import parse_settings, read_settings
from tenantry_ops.bouncer.sizing import size
from tenantry_ops.bouncer.versions import BEYOND, OLDEST, SURVIVES_OPTIONS, Version
from tenantry_schema.errors import InvalidConfig

VERSIONS = [*(Version(1, minor) for minor in range(OLDEST.minor, BEYOND.minor)), SURVIVES_OPTIONS]


@st.composite
def fleets(draw):
    """Return nodes that may share servers, and settings."""
    nodes = []
    for shard in range(draw(st.integers(1, 4))):
        primary = draw(st.integers(0, 2))
        for number in range(3):
            host, most = draw(st.sampled_from(["a", "b", "c"])), draw(st.integers(60, 2000))
            name = f"s{shard}-{number}"
            nodes.append(node(f"s{shard}", name, host, primary=number == primary, most=most))
    # One server tells every database the same number.
    limits = {it.host: it.max_connections for it in nodes}
    nodes = tuple(replace(it, max_connections=limits[it.host]) for it in nodes)
    given = {
        "poolers": draw(st.integers(1, 5)),
        "kept_direct": draw(st.integers(0, 40)),
        "cores": draw(st.none() | st.integers(1, 64)),
    }
    return nodes, settings(**given)


@given(fleets(), st.integers(0, 50))
def test_no_server_is_asked_for_more_than_it_has(fleet, routers):
    """Over all poolers and entries, what is kept for direct use stays free."""
    nodes, given_settings = fleet
    try:
        sizes = size(nodes, given_settings, routers)
    except InvalidConfig:
        # The least that 12 databases on one server need, for 5 poolers.
        assert min(it.max_connections for it in nodes) < 4 * 12 * 5 + 3 + 40
        return
    for host in {it.host for it in nodes}:
        mine = [it for it in nodes if it.host == host]
        asked = sum(
            cap for (name, _), cap in sizes.caps.items() if name in {it.name for it in mine}
        )
        free = mine[0].max_connections - mine[0].reserved - given_settings.kept_direct
        assert asked * given_settings.poolers <= free
    assert min(sizes.caps.values()) >= 2
    assert sizes.fds > sizes.clients + sum(sizes.caps.values())


def test_the_arithmetic_is_shown():
    """Each figure with the numbers that it comes from."""
    sizes = size(two_shards(), settings(poolers=2, cores=4), 6)
    told = {it.what: (it.how, it.value) for it in sizes.steps}
    assert told["s1-a: usable"] == ("max_connections 100 - 3 reserved - 20 kept direct", 77)
    assert told["s1-a: connections from here"][1] == 16
    assert sizes.caps["s1-a", True] == 14
    assert told["max_client_conn"][1] == 6 * 10 * 4 * 2
    assert "LimitNOFILE" in sizes.steps[-1].what


def test_a_limit_of_the_roles_counts():
    """CONNECTION LIMIT of the roles or the database bounds the pool."""
    nodes = (node("s", "a", primary=True, limit=10), node("s", "b", host="x"))
    sizes = size(nodes, settings(), 1)
    assert sizes.caps == {("a", True): 8, ("a", False): 2, ("b", False): 77}


@pytest.mark.parametrize("changed", [{"kept_direct": 97}, {"poolers": 50}])
def test_too_few_connections_are_refused(changed):
    """With what to do about it."""
    with pytest.raises(InvalidConfig, match="max_connections"):
        size(two_shards(), settings(**changed), 1)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("auth", ["query", "userlist"])
def test_what_is_rendered_is_fit_for_each_version(version, auth):
    """No key that it does not know, nothing that it would misread."""
    tls = {"client_tls_cert": "/c", "client_tls_key": "/k", "listen_addr": "*"}
    for given_settings in ({}, tls, {**tls, "client_tls_ca": "/a", "server_tls_ca": "/a"}):
        made = rendered(version=version, auth=auth, **given_settings)
        texts = made.texts()
        assert check_ini(parse_ini(texts[INI]), version) == []
        assert list(hba_problems(texts[HBA], version)) == []


def test_entries_lead_to_primaries_and_to_nodes():
    """The shard's entry refuses a server that has become a replica; names of nodes stay."""
    entries = {
        name: parse_pairs(value) for name, value in rendered().ini.section("databases").items()
    }
    assert list(entries) == ["s1", "s1-a", "s1-b", "s2", "s2-a", "s2-b"]
    assert (entries["s1"]["host"], entries["s2"]["host"]) == ("one", "three")
    assert "transaction_read_only" in entries["s1"]["connect_query"]
    assert "connect_query" not in entries["s1-a"]
    after = rendered(
        Facts(tuple(replace(it, primary=not it.primary) for it in two_shards()), 0)
    ).ini.section("databases")
    assert set(after) == set(entries)


def test_prepared_statements_are_kept_from_122_on():
    """Not in 1.21, which loses count of them; below nothing knows the key."""
    kept = {
        version.minor: rendered(version=version)
        .ini.section("pgbouncer")
        .get("max_prepared_statements")
        for version in VERSIONS
    }
    assert kept == {18: None, 19: None, 20: None, 21: "0"} | dict.fromkeys(range(22, 27), "200")


@pytest.mark.parametrize(
    "nodes",
    [
        (node("s1", "s1", primary=True),),
        (node("pgbouncer", "a", primary=True),),
        (node("s1", "a", "x,y", primary=True),),
    ],
)
def test_entries_that_cannot_be(nodes):
    """Two of one name, the console's own name, a list of hosts."""
    with pytest.raises(InvalidConfig):
        rendered(Facts(nodes))


@pytest.mark.parametrize(
    "given_settings",
    [
        {"listen_port": 0},
        {"poolers": 0},
        {"auth": "none"},
        {"clients": ["nowhere"]},
        {"no_such": 1},
        {"client_tls_cert": "/c"},
        {"users": []},
    ],
)
def test_settings_that_cannot_be(given_settings):
    """Each is named."""
    with pytest.raises(InvalidConfig, match=next(iter(given_settings))):
        settings(**given_settings)


def test_settings_come_from_options_environment_and_file(tmp_path, monkeypatch):
    """In this order."""
    (tmp_path / "tenantry.toml").write_text("poolers = 2\nlisten_port = 1\nrouters = 3\n")
    monkeypatch.setenv("TENANTRY_BOUNCER_LISTEN_PORT", "2")
    monkeypatch.setenv("TENANTRY_BOUNCER_ROUTERS", "4")
    found = read_settings(tmp_path, parse_settings(["routers=5", 'clients=["10.0.0.0/8"]']))
    assert (found.poolers, found.listen_port, found.routers) == (2, 2, 5)
    assert found.clients == ("10.0.0.0/8",)
    (tmp_path / "tenantry.toml").write_text("poolers =")
    with pytest.raises(InvalidConfig, match="TOML"):
        read_settings(tmp_path, {})


@pytest.mark.parametrize("given_pair", ["x", "=1", "a b=1", "a=[1", 'a="x'])
def test_pairs_on_the_command_line(given_pair):
    """NAME=VALUE, and nothing else."""
    with pytest.raises(InvalidConfig, match="--set"):
        parse_settings([given_pair])


def test_a_version_is_no_number():
    """1.20 is not 1.2."""
    assert parse_settings(["version=1.20", "poolers=2"]) == {"version": "1.20", "poolers": "2"}
    assert settings(**parse_settings(["poolers=2"])).poolers == 2
