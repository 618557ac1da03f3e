"""The table of keys, versions, and the HBA file: pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry_ops.bouncer.hba import hba_problems, render_hba
from tenantry_ops.bouncer.keys import Key, Kind
from tenantry_ops.bouncer.table import KEYS, keys_of
from tenantry_ops.bouncer.versions import Version, parse_version
from tenantry_schema.errors import InvalidConfig

OLD = Version(1, 18)
NEW = Version(1, 26, 1)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("PgBouncer 1.18.0", Version(1, 18, 0)),
        ("1.24.1/bouncer", Version(1, 24, 1)),
        ("1.25", Version(1, 25)),
    ],
)
def test_versions_as_they_are_told(text, version):
    """By SHOW VERSION, as a parameter, by a person."""
    assert parse_version(text) == version


@pytest.mark.parametrize("text", ["1.17.0", "1.27.0", "2.0", "0.9", "15.20", "", "new", "1.18x"])
def test_unknown_versions_are_refused(text):
    """Nothing is guessed about keys that were not read."""
    with pytest.raises(InvalidConfig, match="PgBouncer"):
        parse_version(text)


def test_each_version_knows_its_keys():
    """As counted in the sources of 1.18 and 1.25, aliases apart, and as 1.26 shows them."""
    assert len(keys_of(OLD)) == 83
    assert len(keys_of(Version(1, 25))) == 97
    assert len(keys_of(NEW)) == 98
    assert len({it.name for it in KEYS}) == len(KEYS)
    assert "max_prepared_statements" not in keys_of(Version(1, 20))
    assert "suspend_timeout" in keys_of(Version(1, 25))
    assert "suspend_timeout" not in keys_of(NEW)
    assert keys_of(NEW)["server_tls_sslmode"].default_of(OLD) == "disable"
    assert keys_of(NEW)["server_tls_sslmode"].default_of(Version(1, 20)) == "prefer"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.INT, "yes"),
        (Kind.INT, "08"),
        (Kind.INT, "4294967296"),
        (Kind.INT, ""),
        (Kind.SECONDS, "5s"),
        (Kind.SECONDS, "-1"),
        (Kind.SECONDS, "inf"),
        (Kind.MODE, "tx"),
        (Kind.TLS, "on"),
        (Kind.AUTH, "scram"),
    ],
)
def test_values_that_pgbouncer_refuses_or_misreads(kind, value):
    """Words, units, and numbers that would lose their upper half."""
    assert Key("k", kind, None).problem(value)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        (Kind.INT, "0777", "511"),
        (Kind.INT, "0x10", "16"),
        (Kind.SECONDS, "1.50", "1.5"),
        (Kind.SECONDS, "1e2", "100"),
        (Kind.MODE, "Transaction", "transaction"),
        (Kind.TEXT, None, ""),
    ],
)
def test_values_that_mean_the_same(kind, one, other):
    """As SHOW CONFIG prints them."""
    key = Key("k", kind, None)
    assert key.same(one, other)
    assert key.same(other, one)
    assert not key.same(one, "9")


NAMES = st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1), min_size=1)


@given(NAMES, NAMES)
def test_our_own_rules_are_understood(databases, users):
    """Also of a database that is called `all`, or has a quote in its name."""
    text = render_hba(
        console="c", databases=databases, users=users, clients=["10.0.0.0/8"], tls="require"
    )
    if not any(it.startswith("+") for it in (*databases, *users)):
        assert list(hba_problems(text, OLD)) == []
    assert "hostssl" in text


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("host all all all scram-sha-256", "'all'"),
        ("host all +ops 10.0.0.0/8 scram-sha-256", "group"),
        ("host replication all 10.0.0.0/8 scram-sha-256", "kind of database"),
        ("host all all db.example.com scram-sha-256", "no network"),
        ("host all all 10.0.0.0/8", "too few"),
        ("local all all", "too few"),
        ("local all all ldap ldapserver=x", "not known"),
        ("local all all trust", "without a password"),
        ("local all all md5 map=x", "options"),
        ("hosttls all all 10.0.0.0/8 md5", "none of"),
    ],
)
def test_rules_that_pgbouncer_would_skip(line, problem):
    """Each is named by its line."""
    ((number, found),) = hba_problems(f"# a comment\n\n{line}\n", OLD)
    assert (number, problem in found) == (3, True), found


def test_rules_that_are_fine():
    """Masks, comments, quotes, and what newer versions learnt."""
    text = 'host all all 10.0.0.0 255.0.0.0 scram-sha-256 # as ever\nlocal a,"b c" u reject\n'
    assert list(hba_problems(text, OLD)) == []
    assert list(hba_problems("host all all all scram-sha-256", NEW)) == []
