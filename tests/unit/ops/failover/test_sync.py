"""Synchronous standbys: what the setting says, and what a commit survives: pure."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry_ops.failover.outside import instructions
from tenantry_ops.failover.standing import Replica, ShardStanding, Standing, lsn_of, lsn_text
from tenantry_ops.failover.survival import broken_promise, survives
from tenantry_ops.failover.sync import Sync, setting_for
from tenantry_ops.fleet.replica import followed

SETTINGS = [
    ("", None),
    ("   ", None),
    ("s1", Sync(1, frozenset({"s1"}))),
    ("S1, s2", Sync(1, frozenset({"s1", "s2"}))),
    ("*", Sync(1, None)),
    ("2 (a, b, c)", Sync(2, frozenset({"a", "b", "c"}))),
    ("FIRST 1 (a)", Sync(1, frozenset({"a"}))),
    ('any 2 ("shard-1-a","x ""y""", c)', Sync(2, frozenset({"shard-1-a", 'x "y"', "c"}))),
    ("ANY 1 (*)", Sync(1, None)),
]


@pytest.mark.parametrize(("text", "expected"), SETTINGS)
def test_the_setting_is_read_as_postgres_reads_it(text, expected):
    """All its forms."""
    assert Sync.parse(text) == expected


@given(st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=5))
def test_our_own_setting_is_read_back(names):
    """Whatever nodes are called."""
    assert Sync.parse(setting_for(names)).names in (None, {it.lower() for it in names})


@given(st.data())
def test_a_proof_holds_for_every_way_a_commit_was_acknowledged(data):
    """Whichever standbys confirmed, one of those that answer is among them; else it is no proof."""
    names = "abcde"[: data.draw(st.integers(1, 5))]
    count = data.draw(st.integers(1, len(names)))
    answering = data.draw(st.sets(st.sampled_from(names)))
    ways = combinations(names, count)
    always = all(answering & set(way) for way in ways)
    assert Sync(count, frozenset(names) | {"z"}).proves("z", answering, []) == always


HEAD = Standing("a", system_identifier="7", timeline=1, written=9)
BACK = Standing("b", system_identifier="7", timeline=1, in_recovery=True, streaming=True)


def shard(durability="local", **changed):
    return ShardStanding("s", durability, (replace(HEAD, **changed), BACK))


ON = {
    "synchronous_standby_names": "ANY 1 (a, b)",
    "replicas": (Replica("b", "streaming", "quorum"),),
}
CASES = [
    ({}, "a restart of a, not", "is empty"),
    ({"fsync": False}, "not of its machine", "is empty"),
    ({"synchronous_commit": "off"}, "not even the end of a", "is empty"),
    (ON, "the loss of a: 1 of b", None),
    ({**ON, "replicas": ()}, "nothing is acknowledged", "commits wait"),
    ({**ON, "replicas": (Replica("b", "catchup", "quorum"),)}, "nothing is", "commits wait"),
    ({**ON, "synchronous_commit": "local"}, "a restart of a", "is local"),
    ({**ON, "synchronous_commit": "remote_write"}, "in memory", "is remote_write"),
    ({**ON, "synchronous_commit": "remote_apply"}, "the loss of a", None),
]


@pytest.mark.parametrize(("changed", "said", "broken"), CASES)
def test_what_a_commit_survives(changed, said, broken):
    """In words; and whether a promise of two nodes is kept."""
    assert said in survives(shard(**changed))
    assert broken_promise(shard(**changed)) is None
    why = broken_promise(shard("two-nodes", **changed))
    assert (why is None) if broken is None else (broken in why)


@given(st.integers(0, 2**64 - 1))
def test_positions_are_written_and_read_as_postgres_does(position):
    """Both ways."""
    assert lsn_of(lsn_text(position)) == position


def test_a_configuration_names_one_primary():
    """What was there before is forgotten, and quotes stay quotes."""
    once = followed("port = 1\nprimary_conninfo = 'host=x'\n", "host='/a b'", "s")
    assert once == "port = 1\nprimary_conninfo = 'host=''/a b'''\nprimary_slot_name = 's'\n"
    assert followed(once, "host='/a b'", "s") == once


def test_instructions_name_both_servers():
    """And hold no secret: the role is for the operator to fill in."""
    from tenantry.map import Node

    text = instructions(Node("a", "h1", 5432, "d"), Node("b", "h2", 5433, "d"))
    assert "a (h1:5432)" in text
    assert "host=h2 port=5433" in text
