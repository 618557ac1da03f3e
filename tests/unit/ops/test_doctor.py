"""The doctor's verdicts over facts: pure."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from tenantry.catalog_writes import equal_ranges
from tenantry.keys import KeyType
from tenantry.map import Bucket, Map, Node, Shard
from tenantry_ops.doctor.checks import examine
from tenantry_ops.doctor.facts import (
    FleetFacts,
    NodeFacts,
    RoleFacts,
    RouterFacts,
    ShardFacts,
    TableFacts,
)
from tenantry_ops.migrate.state import SchemaState

FLEET = UUID(int=7)
RANGES = dict(enumerate(equal_ranges(4)))
ROLES = [
    RoleFacts("tenantry_owner", False, False, False, False, True),
    RoleFacts("tenantry_app", False, False, False, True, False),
    RoleFacts("tenantry_read", False, False, False, True, False),
    RoleFacts("tenantry_operator", False, True, False, True, True),
    RoleFacts("tenantry_worker", False, False, False, False, False),
]


def healthy():
    """Return the facts of two shards of two nodes, with four buckets dealt round."""
    shards = {
        number: Shard(
            number,
            f"s{number}",
            tuple(Node(f"s{number}-{it}", "host", 5000 + number, "db") for it in "ab"),
        )
        for number in (1, 2)
    }
    buckets = [Bucket(it, 1, it % 2 + 1, *RANGES[it]) for it in range(4)]
    held = Map(version=3, fleet_id=FLEET, key_type=KeyType.UUID, shards=shards, buckets=buckets)
    found = {}
    for number, shard in shards.items():
        schemas = [it.schema for it in held.placements() if it.shard == number]
        found[number] = ShardFacts(
            shard.name,
            served=dict.fromkeys(schemas, True),
            tables=[TableFacts(schema, "tasks", True, 2) for schema in schemas],
            roles=list(ROLES),
            who=(FLEET, number),
            ranges=dict(RANGES),
        )
    nodes = [
        NodeFacts(shard.name, node.name, None, shard.name, node.name.endswith("b"))
        for shard in shards.values()
        for node in shard.nodes
    ]
    state = SchemaState(
        {"catalog": ("1",), "s1": ("1",), "s2": ("1",)}, {"catalog": ("1",), "shard": ("1",)}
    )
    return FleetFacts(held, nodes, found, state, [RouterFacts("app", "host", 1, 3, silent=5)])


def change_role(name, **changed):
    def change(facts):
        roles = facts.shards[1].roles
        roles[:] = [replace(it, **changed) if it.name == name else it for it in roles]

    return change


def served(shard, schema, usable):
    def change(facts):
        if usable is None:
            del facts.shards[shard].served[schema]
        else:
            facts.shards[shard].served[schema] = usable

    return change


def node(index, **changed):
    def change(facts):
        for name, value in changed.items():
            setattr(facts.nodes[index], name, value)

    return change


BROKEN = [
    (node(0, error="refused"), {"node s1-a": "does not answer", "shard s1": "0 writable"}),
    (node(1, error="refused"), {"node s1-b": "does not answer"}),
    (node(1, in_recovery=False), {"shard s1": "2 writable primaries (s1-a, s1-b)"}),
    (node(0, read_only=True), {"shard s1": "0 writable primaries (none)"}),
    (node(3, system_identifier="x"), {"shard s2": "different clusters"}),
    (served(1, "bucket_0000", None), {"bucket bucket_0000": "is not there"}),
    (served(1, "bucket_0000", False), {"bucket bucket_0000": "may not be used"}),
    (served(2, "bucket_0000", True), {"bucket bucket_0000": "2 shards at once"}),
    (served(2, "bucket_0001_g2", True), {"bucket bucket_0001_g2": "not in the map"}),
    (change_role("tenantry_app", superuser=True), {"role tenantry_app on s1": "step around"}),
    (change_role("tenantry_read", bypassrls=True), {"role tenantry_read on s1": "step around"}),
    (change_role("tenantry_operator", superuser=True), {"role tenantry_operator on s1": "step"}),
    (change_role("tenantry_app", special=True), {"role tenantry_app on s1": "make roles"}),
    (change_role("tenantry_app", owner=True), {"role tenantry_app on s1": "as the owner"}),
    (change_role("tenantry_app", login=False), {"role tenantry_app on s1": "cannot log in"}),
    (change_role("tenantry_worker", login=True), {"role tenantry_worker on s1": "can log in"}),
    (change_role("tenantry_owner", login=True), {"role tenantry_owner on s1": "can log in"}),
    (change_role("tenantry_operator", owner=False), {"role tenantry_operator on s1": "operate"}),
    (lambda facts: facts.shards[2].roles.pop(1), {"role tenantry_app on s2": "does not exist"}),
    (
        lambda facts: facts.shards[1].tables.append(TableFacts("bucket_0000", "x", False, 2)),
        {"table bucket_0000.x on s1": "not forced"},
    ),
    (
        lambda facts: facts.shards[1].tables.append(TableFacts("bucket_0000", "x", True, 1)),
        {"table bucket_0000.x on s1": "policies are missing"},
    ),
    (lambda facts: setattr(facts.shards[1], "parents_open", True), {"schema fleet on s1": "may"}),
    (lambda facts: setattr(facts.shards[1], "who", None), {"shard s1": "it is nobody"}),
    (lambda facts: setattr(facts.shards[1], "who", (FLEET, 9)), {"shard s1": "it is shard 9 of"}),
    (lambda facts: facts.shards[2].ranges.pop(3), {"ranges on s2": "for 1 buckets, such as 3"}),
    (lambda facts: facts.shards[1].pins.update({7: 3}), {"pins on s1": "1 positions, such as 7"}),
    (lambda facts: facts.schema.revisions.update(s2=()), {"schema of s2": "revision none"}),
    (lambda facts: facts.misplaced.update(s2="2 databases"), {"shard s2": "2 databases"}),
    (lambda facts: setattr(facts, "models_error", "gone"), {"models": "gone"}),
    (
        lambda facts: facts.routers.append(RouterFacts("old", "h", 2, 2, silent=9)),
        {"router old (h, pid 2)": "2 of 3, last heard of 9 s ago"},
    ),
]


def test_nothing_is_wrong_with_a_healthy_fleet():
    """No finding without a reason."""
    assert examine(healthy()) == []


@pytest.mark.parametrize(("break_it", "expected"), BROKEN)
def test_each_broken_thing_is_named(break_it, expected):
    """Exactly what is broken is named, with what to do next."""
    facts = healthy()
    break_it(facts)
    findings = examine(facts)
    assert {it.object for it in findings} == set(expected), findings
    assert all(expected[it.object] in it.problem and it.next for it in findings), findings


def test_a_shard_that_does_not_answer_is_one_finding_and_no_more():
    """Its buckets are not called missing: nobody knows."""
    facts = healthy()
    del facts.shards[2]
    for found in facts.nodes[2:]:
        found.error = "refused"
    objects = sorted(it.object for it in examine(facts))
    assert objects == ["node s2-a", "node s2-b", "shard s2"]
