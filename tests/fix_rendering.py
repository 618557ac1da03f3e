"""Facts of a fleet that is not there, and what is rendered from them."""

from __future__ import annotations

from pathlib import Path

from tenantry_ops.bouncer.nodes import Facts, NodeFacts
from tenantry_ops.bouncer.render import AUTH_ROLE, CONSOLE_USER, render
from tenantry_ops.bouncer.settings import read_settings
from tenantry_ops.bouncer.versions import OLDEST

SECRETS = {AUTH_ROLE: "x", CONSOLE_USER: "y"}


def node(shard, name, host="h", port=5432, *, primary=False, most=100, limit=None):
    return NodeFacts(shard, name, host, port, "tenantry", primary, most, 3, limit)


def two_shards():
    return (
        node("s1", "s1-a", "one", primary=True),
        node("s1", "s1-b", "two"),
        node("s2", "s2-a", "three", primary=True, most=200),
        node("s2", "s2-b", "four"),
    )


def settings(**given):
    return read_settings(None, given)


def rendered(facts=None, version=OLDEST, **given):
    return render(
        Facts(two_shards(), routers=4) if facts is None else facts,
        settings(**given),
        version=version,
        directory=Path("/etc/pgbouncer"),
        secrets=SECRETS,
    )
