"""What a change does, what was changed by hand, and what runs otherwise: pure."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fix_rendering import rendered, two_shards
from hypothesis import given
from hypothesis import strategies as st

from tenantry_ops.bouncer.change import Lying, decide
from tenantry_ops.bouncer.diff import Effect, changes, entry_effects
from tenantry_ops.bouncer.ini import DATABASES, Ini, parse_ini
from tenantry_ops.bouncer.merge import Edited, edits, merge
from tenantry_ops.bouncer.nodes import Facts
from tenantry_ops.bouncer.readback import compare
from tenantry_ops.bouncer.render import HBA, INI, USERLIST, WRITTEN
from tenantry_ops.bouncer.status import database_row
from tenantry_ops.bouncer.userlist import parse_userlist
from tenantry_ops.bouncer.versions import Version
from tenantry_schema.errors import InvalidConfig

OLD = Version(1, 18)
NEW = Version(1, 25, 2)


def ini(main=None, **databases):
    return Ini.of({"pgbouncer": main or {}, "databases": databases})


@pytest.mark.parametrize(
    ("before", "after", "version", "effect"),
    [
        (ini({"max_client_conn": "1"}), ini({"max_client_conn": "2"}), OLD, Effect.RELOAD),
        (ini({"listen_port": "1"}), ini({"listen_port": "2"}), OLD, Effect.RESTART),
        # It has no default to fall back to.
        (ini({"auth_user": "x"}), ini(), OLD, Effect.RESTART),
        (ini({"server_lifetime": "1"}), ini(), OLD, Effect.RELOAD),
        (ini(a="host=x"), ini(a="host=x pool_size=2"), OLD, Effect.RELOAD),
        (ini(a="host=x"), ini(a="host=y"), OLD, Effect.PAUSE),
        (ini(a="host=x"), ini(a="host=x dbname=b"), OLD, Effect.PAUSE),
        (ini(a="host=x"), ini(), OLD, Effect.DISCONNECT),
        (ini(), ini(a="host=x user=u"), OLD, Effect.RELOAD),
        (ini(a="host=x"), ini(a="host=x user=u"), OLD, Effect.CRASH),
        (ini(a="host=x"), ini(a="host=x user=u"), Version(1, 23), Effect.CRASH),
        (ini(a="host=x"), ini(a="host=x user=u"), Version(1, 23, 1), Effect.RELOAD),
        (ini(a="host=x user=u"), ini(a="host=x"), NEW, Effect.RESTART),
    ],
)
def test_how_a_change_comes_into_force(before, after, version, effect):
    """At once, later, in a pause, or never."""
    (found,) = changes(before, after, version)
    assert found.effect is effect
    assert changes(before, before, version) == []


def running(**changed):
    row = {"name": "a", "host": "x", "port": 5432, "database": "a", "force_user": None}
    return [{**row, **changed}, {**row, "name": "pgbouncer"}]


def test_what_a_change_does_to_what_runs():
    """Asked of PgBouncer: its file may never have been read."""
    assert entry_effects(running(), ini(a="host=x"), OLD) == {"a": Effect.RELOAD}
    assert entry_effects(running(), ini(a="host=y"), OLD) == {"a": Effect.PAUSE}
    assert entry_effects(running(), ini(a="host=x user=u"), OLD) == {"a": Effect.CRASH}
    assert entry_effects(running(), ini(), OLD) == {"a": Effect.DISCONNECT}


def test_no_password_is_shown_in_a_change():
    """Neither the old one nor the new one."""
    (found,) = changes(ini(a="host=x password=old-word"), ini(a="host=x password=new-word"), OLD)
    assert "-word" not in str(found.shown().values())


SECTIONS = st.dictionaries(
    st.sampled_from(["pgbouncer", "databases", "users"]),
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from("123")),
)


def filled(sections):
    return {name: values for name, values in sections.items() if values}


@given(SECTIONS, SECTIONS, SECTIONS)
def test_hands_and_catalog_are_merged_key_by_key(base, lying, wanted):
    """Kept: hands win where they changed something. Discarded: the catalog's. Refused: nothing."""
    by_hand = list(edits(Ini.of(base), Ini.of(lying)))
    kept = merge(Ini.of(wanted), by_hand, Edited.KEEP).sections()
    for section in ("pgbouncer", "databases", "users"):
        for key in "abcd":
            was, now = (it.get(section, {}).get(key) for it in (base, lying))
            expected = now if was != now else wanted.get(section, {}).get(key)
            assert kept.get(section, {}).get(key) == expected
    assert filled(merge(Ini.of(wanted), by_hand, Edited.DISCARD).sections()) == filled(wanted)
    if filled(lying) == filled(wanted) or not by_hand:
        merge(Ini.of(wanted), by_hand, Edited.REFUSE)


def test_a_plan_is_stable():
    """What was put in place needs no change the next time, and what hands kept stays kept."""
    rendering = rendered()
    first = decide(Lying(), rendering, Edited.REFUSE)
    assert list(first.files)[-1] == INI
    again = decide(lying_after(first), rendering, Edited.REFUSE)
    assert (again.changes, again.edited, again.files) == ([], [], first.files)
    hands = parse_ini(first.files[INI].decode().replace("server_login_retry = 1", "verbose = 1"))
    edited = lying_after(first, ini=hands)
    with pytest.raises(InvalidConfig, match="verbose"):
        decide(edited, rendering, Edited.REFUSE)
    kept = decide(edited, rendering, Edited.KEEP)
    assert kept.changes == []
    later = decide(lying_after(kept), rendered(query_wait_timeout=60), Edited.KEEP)
    assert [it.key for it in later.changes] == ["query_wait_timeout"]
    assert {it.key for it in later.edited} == {"verbose", "server_login_retry"}
    assert decide(edited, rendering, Edited.DISCARD).files == first.files


def lying_after(plan, ini=None):
    files = {name: text.decode() for name, text in plan.files.items()}
    return Lying(
        ini or parse_ini(files[INI]),
        files[HBA],
        parse_userlist(files[USERLIST]),
        json.loads(files[WRITTEN]),
    )


def test_rules_and_users_that_others_wrote():
    """Foreign users stay; a user who is asked of the server now does not; rules by policy."""
    rendering = rendered()
    lying = Lying(
        hba="local all all scram-sha-256\n", userlist={"tenantry_app": "md5x", "monitor": "m"}
    )
    with pytest.raises(InvalidConfig, match="changed by hand"):
        decide(lying, rendering, Edited.REFUSE)
    kept = decide(lying, rendering, Edited.KEEP)
    assert kept.files[HBA].decode() == lying.hba
    users = parse_userlist(kept.files[USERLIST].decode())
    assert "tenantry_app" not in users
    assert users["monitor"] == "m"
    gone = [it for it in kept.changes if it.key == "tenantry_app"]
    assert [it.effect for it in gone] == [Effect.RESTART]
    assert "md5x" not in str(kept.changes)
    assert decide(lying, rendering, Edited.DISCARD).files[HBA].decode() == rendering.hba


def config(**values):
    defaults = {"query_wait_timeout": "120"}
    return [
        {"key": key, "value": value, "default": defaults.get(key, "0")}
        for key, value in values.items()
    ]


def database(name="a", **changed):
    row = {"host": "x", "port": 5432, "database": "a", "force_user": None, "pool_mode": None}
    sizes = {"pool_size": 3, "min_pool_size": 0, "max_connections": 0}
    return {"name": name, **row, **sizes, **changed}


@pytest.mark.parametrize("column", ["reserve_pool", "reserve_pool_size"])
def test_what_runs_is_compared_by_the_names_of_columns(column):
    """Also of the column that 1.24 renamed."""
    file = ini({"query_wait_timeout": "60"}, a="host=x pool_size=3 reserve_pool=1")
    sizes = {"min_pool_size": "0", "max_db_connections": "0", "reserve_pool_size": "0"}
    row = database(**{column: 1})
    assert compare(file, config(query_wait_timeout="60", **sizes), [row], OLD) == []
    (mode,) = compare(file, config(query_wait_timeout="120", **sizes), [row], OLD)
    assert (mode.where, mode.expected, mode.found, mode.restart) == (
        "[pgbouncer] query_wait_timeout",
        "60",
        "120",
        False,
    )
    row[column] = 0
    (size,) = compare(file, config(query_wait_timeout="60", **sizes), [row], OLD)
    assert size.where == "[databases] a: reserve_pool"


def test_entries_that_do_not_run_and_entries_that_should_not():
    """Both are told."""
    found = compare(ini(b="host=x"), [], [database()], OLD)
    assert {(it.where, it.expected, it.found) for it in found} == {
        ("[databases] a", None, "an entry"),
        ("[databases] b", "an entry", None),
    }


def test_a_row_of_the_status():
    """Pools of all users together, the longest wait of any."""
    pool = {"cl_active": 1, "cl_waiting": 2, "sv_active": 1, "sv_idle": 0, "sv_login": 0}
    pools = [
        {"database": "a", "maxwait": 1, "maxwait_us": 500_000, **pool},
        {"database": "a", "maxwait": 0, "maxwait_us": 1, **pool},
        {"database": "b", "maxwait": 9, "maxwait_us": 1, **pool},
    ]
    row = database(current_connections=2, paused=1, disabled=0)
    told = database_row(row, pools, {"total_xact_count": 7, "avg_wait_time": 3})
    assert (told["state"], told["cl_waiting"], told["longest_wait_s"]) == ("paused", 4, 1.5)
    assert (told["transactions"], told["leads_to"]) == (7, "x:5432/a")


def test_who_may_come_does_not_follow_which_node_is_primary():
    """After a switchover entries lead elsewhere, and the HBA file says what it said."""
    one, other, *rest = two_shards()
    switched = (replace(one, primary=False), replace(other, primary=True), *rest)
    before, after = rendered(), rendered(Facts(switched, routers=4))
    assert before.hba == after.hba
    assert before.ini.section(DATABASES) != after.ini.section(DATABASES)
