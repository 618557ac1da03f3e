"""What is written reads back the same, and what PgBouncer would misread is refused: pure."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry_ops.bouncer.connstr import parse_pairs, render_pairs, shown_pairs
from tenantry_ops.bouncer.ini import Ini, parse_ini, render_ini
from tenantry_ops.bouncer.userlist import parse_userlist, render_userlist
from tenantry_schema.errors import InvalidConfig

NAMES = st.text(string.ascii_letters + string.digits + "_.-", min_size=1, max_size=63)
PRINTED = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n\r"))
VALUES = PRINTED.filter(lambda it: it.strip(" \t\v\f") == it)
SECTIONS = st.dictionaries(
    st.sampled_from(["pgbouncer", "databases", "users", "peers"]), st.dictionaries(NAMES, VALUES)
)


@given(SECTIONS)
def test_an_ini_reads_back_the_same(sections):
    """Whatever keys and values it has: comments, quotes and brackets in a value are just text."""
    text = render_ini(Ini.of(sections), head=["one", "two"])
    again = parse_ini(text)
    assert again.fault is None
    assert {name: values for name, values in again.sections().items() if values} == {
        name: values for name, values in sections.items() if values
    }
    assert render_ini(again, head=["one", "two"]) == text


@given(st.text())
def test_any_text_is_read_or_refused(text):
    """Never an error of ours, and nothing is invented."""
    found = parse_ini(text)
    assert all(entry.value in text and entry.key in text for entry in found.entries)
    if "\0" in text:
        assert found.fault is not None


@pytest.mark.parametrize(
    ("key", "value"),
    [("a", "x\ny"), ("a", " x"), ("a", "x "), ("a", "x\0"), ("a b", "x"), ("", "x"), ("ä", "x")],
)
def test_what_no_line_can_hold_is_refused(key, value):
    """Line breaks, outer spaces, NUL, and names that PgBouncer does not read."""
    with pytest.raises(InvalidConfig):
        render_ini(Ini.of({"pgbouncer": {key: value}}))


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("[pgbouncer]\na = 1\nnonsense\n", 3, "neither"),
        ("[pgbouncer\n", 1, "does not close"),
        ("a = 1\n", 1, "before the first section"),
        ("[pgbouncer]\n%include other.ini\n", 2, "includes another file"),
        ("[pgbouncer]\na = 1\0\n", 2, "NUL"),
    ],
)
def test_where_pgbouncer_stops_reading(text, line, problem):
    """The line is named."""
    fault = parse_ini(text).fault
    assert fault is not None
    assert (fault.line, problem in fault.problem) == (line, True), fault


def test_a_file_is_read_as_pgbouncer_reads_it():
    """Quotes and comments behind a value belong to it; a section may go on behind its bracket."""
    found = parse_ini(
        "[pgbouncer] a = 'x' ; no comment\n  ; comment\n# other\nb=\n[databases]\n*=h"
    )
    assert [(it.section, it.key, it.value) for it in found.entries] == [
        ("pgbouncer", "a", "'x' ; no comment"),
        ("pgbouncer", "b", ""),
        ("databases", "*", "h"),
    ]


@given(st.dictionaries(NAMES, PRINTED.filter(bool), min_size=1))
def test_pairs_read_back_the_same(pairs):
    """Spaces, quotes and equal signs in the values of an entry."""
    text = render_pairs(pairs)
    assert parse_pairs(text) == pairs
    # As a line of the file, too.
    line = render_ini(Ini.of({"databases": {"x": text}}))
    assert parse_ini(line).section("databases") == {"x": text}


@pytest.mark.parametrize(
    "text",
    ["host=", "host= port=1", "host='a'port=1", "host='a", "=x", "a=1 a=2", "host=a\tport=1", "x"],
)
def test_pairs_that_pgbouncer_would_misread(text):
    """A swallowed character, a value taken from the next key, a doubled key."""
    with pytest.raises(ValueError, match=r"gives|is no list"):
        parse_pairs(text)


def test_no_password_is_shown():
    """Neither of a good entry nor of one that cannot be read."""
    assert "secret" not in shown_pairs("host=a password=secret-word")
    assert "secret" not in shown_pairs("host=a password='secret-word")
    with pytest.raises(ValueError, match="host") as caught:
        parse_pairs("host=a password='secret-word")
    assert "secret" not in str(caught.value)


@given(st.dictionaries(PRINTED.filter(bool), PRINTED.filter(bool)))
def test_a_userlist_reads_back_the_same(secrets):
    """Quotes, semicolons and any script, as long as PgBouncer has room for them."""
    try:
        text = render_userlist(secrets)
    except InvalidConfig:
        assert any(len(it.encode()) > 60 for pair in secrets.items() for it in pair)
        return
    assert parse_userlist(f"; head\n\n{text}") == secrets


@pytest.mark.parametrize("text", ['"a"\n', 'a "b"', '"a" "b', '"a" "b"\n# no comment\n'])
def test_a_broken_userlist_is_refused(text):
    """The line is named; a secret is not."""
    with pytest.raises(InvalidConfig, match="line"):
        parse_userlist(text)


@pytest.mark.parametrize("secrets", [{"a": ""}, {"": "x"}, {"a": "x\n"}, {'"' * 64: "x"}])
def test_users_that_pgbouncer_cannot_hold(secrets):
    """Empty ones, line breaks, and names that are too long once their quotes are doubled."""
    with pytest.raises(InvalidConfig):
        render_userlist(secrets)
