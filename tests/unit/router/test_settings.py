from __future__ import annotations

import inspect

import pytest

import tenantry
from tenantry import AsyncRouter, Router
from tenantry.conninfo import parse, primary_conninfo
from tenantry.errors import InvalidConfig
from tenantry.map import Node


@pytest.mark.parametrize(
    ("catalog", "options"),
    [
        (None, {}),
        ("", {}),
        ("host=x password=secret-word bad", {}),
        ("postgresql://u:secret-word@[::1/", {}),
        ("host=x\0y", {}),
        ("host=x", {"deadline": -1}),
        ("host=x", {"pool_size": 0}),
        ("host=x", {"no_such": 1}),
        (5, {}),
    ],
)
def test_bad_settings_are_refused_without_a_secret(monkeypatch, catalog, options):
    """Each has a named error, and none echoes a password."""
    monkeypatch.delenv("TENANTRY_CATALOG", raising=False)
    with pytest.raises(InvalidConfig) as caught:
        Router(catalog, **options)
    assert "secret-word" not in str(caught.value)


def test_nodes_inherit_who_connects_but_not_where():
    """User and password file come from the catalog's conninfo, hosts from the map."""
    nodes = [Node("a", "h1", 1, "d"), Node("b", "h2", 2, "d")]
    made = parse(primary_conninfo(parse("host=cat user=u passfile=/p sslmode=require"), nodes, "x"))
    assert made["host"] == "h1,h2"
    assert made["port"] == "1,2"
    assert (made["user"], made["passfile"], made["sslmode"]) == ("u", "/p", "require")
    assert made["target_session_attrs"] == "read-write"


def test_nodes_of_a_shard_share_a_database():
    """Two databases in one shard cannot become one connection string."""
    with pytest.raises(InvalidConfig, match="share one database"):
        primary_conninfo({}, [Node("a", "h", 1, "d"), Node("b", "h", 2, "e")], "x")


def signature(method):
    """Return name, kind, default and type of each parameter, in words without colour."""
    return [
        (it.name, it.kind, it.default, str(it.annotation).replace("Async", ""))
        for it in inspect.signature(method).parameters.values()
    ]


def test_the_doors_have_the_same_signatures():
    """What one colour takes, the other takes."""
    shared = {name for name in dir(Router) if name in dir(AsyncRouter)}
    assert set(dir(Router)) - shared == {"__enter__", "__exit__"}
    assert set(dir(AsyncRouter)) - shared == {"__aenter__", "__aexit__"}
    for name in shared - set(dir(object)) | {"__init__"}:
        found = [inspect.getattr_static(it, name) for it in (Router, AsyncRouter)]
        assert type(found[0]) is type(found[1]), name
        if inspect.isfunction(found[0]):
            assert signature(found[0]) == signature(found[1]), name


def test_what_is_awaited_is_what_asks_a_server():
    """A call that asks nobody has no colour, and gives the same in both doors."""
    plain = {
        name
        for name, method in inspect.getmembers(AsyncRouter, inspect.isfunction)
        if not name.startswith("_") and not inspect.iscoroutinefunction(method)
    }
    assert {"where", "session", "connection", "stats"} <= plain
    assert not plain & {"open", "close", "reload", "run", "scatter", "outcome", "tenant_of_agent"}


def test_everything_exported_is_there():
    """``__all__`` is sorted, complete and importable."""
    assert sorted(tenantry.__all__) == tenantry.__all__
    assert all(hasattr(tenantry, name) for name in tenantry.__all__)
