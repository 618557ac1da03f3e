"""Each thing that PgBouncer would refuse or misread is found: pure."""

from __future__ import annotations

import pytest

from tenantry_ops.bouncer.check import check_ini
from tenantry_ops.bouncer.defects import open_defects, warning_of
from tenantry_ops.bouncer.ini import parse_ini
from tenantry_ops.bouncer.versions import Version

GOOD = "[pgbouncer]\npool_mode = transaction\nauth_type = hba\n[databases]\n"
OLD = Version(1, 18)
NEW = Version(1, 25, 2)


def found(text, version=OLD):
    return check_ini(parse_ini(text), version)


def test_nothing_is_wrong_with_a_good_file():
    """No finding without a reason."""
    assert found(GOOD) == []
    assert found(GOOD + "a = host=b port=1 pool_size=3 connect_query='select 1'\n") == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("server_login_retry = 5s", "seconds"),
        ("max_client_conn = many", "whole number"),
        ("max_prepared_statements = 10", "does not know this key"),
        ("logfile = '/var/log/x'", "quotes"),
        ("logfile = /var/log/x ; here", "comments"),
        ("Pool_mode = session", "does not know"),
        ("pool_mode = transaction", "given before"),
        ("disable_pqexec = 1", "simple protocol"),
        ("ignore_startup_parameters = extra_float_digits, options", "options"),
        ("so_reuseport = 1", "PAUSE"),
        ("listen_addr = *", "TLS"),
        ("listen_addr = 127.0.0.1,db.example.com", "TLS"),
        ("auth_query = SELECT 1", "$1"),
        ("[pgbouncer]", "begins again"),
        ("[database]", "no such section"),
        ("[peers]", "no such section"),
        ("nonsense", "stops reading"),
    ],
)
def test_what_is_wrong_in_the_main_section(line, problem):
    """Named by its line, with what to do."""
    text = GOOD.replace("[databases]", f"{line}\n[databases]")
    problems = found(text)
    assert any(problem in it.problem for it in problems), problems
    assert all(it.next for it in problems)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("a = host=x nonsense=1", "nonsense="),
        ("a = host=x load_balance_hosts=disable", "load_balance_hosts="),
        ("a = host=x port=none", "count as 0"),
        ("a = host=x pool_mode=tx", "no mode"),
        ("a = host=x pool_mode=statement", "transactions"),
        ("a = host=", "at its beginning"),
        ("a = host=x port=1\na = host=y", "given before"),
        ("pgbouncer = host=x", "reserved"),
        (f"{'a' * 64} = host=x", "1 to 63"),
        ("* = host=x", "mistyped"),
        ("'a' = host=x", "in quotes"),
    ],
)
def test_what_is_wrong_with_entries(line, problem):
    """Each by the entry's name."""
    problems = found(f"{GOOD}{line}\n")
    assert any(problem in it.problem for it in problems), problems


def test_what_newer_versions_learnt():
    """Keys, sections and quotes that were mistakes before."""
    text = GOOD.replace("[databases]", "max_prepared_statements = 9\n[peers]\n[databases]")
    assert found(text + "'a' = host=x load_balance_hosts=disable\n", NEW) == []
    tracked = GOOD.replace("[databases]", "track_extra_parameters = search_path\n[databases]")
    assert found(tracked, NEW) == []
    assert "CVE" in found(tracked, Version(1, 24))[0].problem
    prepared = GOOD.replace("[databases]", "max_prepared_statements = 9\n[databases]")
    assert "1.21" in found(prepared, Version(1, 21))[0].problem


@pytest.mark.parametrize(
    ("version", "ignored", "fine"),
    [
        (Version(1, 18), "extra_float_digits", True),
        (Version(1, 20), "extra_float_digits", False),
        (Version(1, 20), "", True),
        (Version(1, 26), "extra_float_digits", False),
        (Version(1, 26, 1), "extra_float_digits", True),
    ],
)
def test_what_is_ignored_at_a_login(version, ignored, fine):
    """Any name lets a stranger hang the versions in between."""
    text = GOOD.replace("[databases]", f"ignore_startup_parameters = {ignored}\n[databases]")
    assert ["CVE-2026-107349" in it.problem for it in found(text, version)] == [True] * (not fine)


def test_what_no_file_avoids_is_told():
    """By the change log: who is open to what, and which version is not."""
    assert open_defects(Version(1, 26, 1)) == ()
    assert warning_of(Version(1, 26, 1)) is None
    assert [it.name for it in open_defects(Version(1, 26))] == ["CVE-2026-107350"]
    assert "CVE-2026-6664" not in warning_of(NEW)
    assert "CVE-2026-6664" in warning_of(Version(1, 25, 1))
    assert warning_of(OLD).endswith("Upgrade to 1.26.1")


def test_a_file_without_its_section():
    """PgBouncer refuses it."""
    assert any("is missing" in it.problem for it in found("[databases]\n"))


def test_what_1_26_learnt_and_forgot():
    """Waits of an entry and a user; no more SUSPEND."""
    known = "query_wait_timeout=9"
    text = GOOD.replace("[databases]", f"suspend_timeout = 9\n[users]\nu = {known}\n[databases]")
    text = f"{text}a = host=x {known}\n"
    assert [it.where for it in found(text, NEW)] == ["[users] u, line 6", "[databases] a, line 8"]
    newest = [it.where for it in found(text, Version(1, 26, 1))]
    assert newest == ["[pgbouncer] suspend_timeout, line 4"]


def test_no_password_is_told():
    """An entry that cannot be read may hold one."""
    problems = found(f"{GOOD}a = host=x password='secret-word\nb = password=secret-word x\n")
    assert problems
    assert "secret-word" not in str(problems)
