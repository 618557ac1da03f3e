"""Tokens: their text, and what they stand for after a failover."""

from __future__ import annotations

import string

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given

from tenantry.errors import InvalidToken
from tenantry.tokens import Line, Standing, Token, lsn_text, parse_lsn, standing

TOKENS = st.builds(
    Token,
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(1, 2**32 - 1),
    st.integers(0, 2**64 - 1),
)
URL_SAFE = set(string.ascii_letters + string.digits + "-_")


@given(TOKENS)
def test_a_token_survives_its_text(token):
    """Short, URL-safe, and the same again."""
    text = str(token)
    assert len(text) <= 64
    assert set(text) <= URL_SAFE
    assert Token.parse(text) == token


@given(TOKENS, st.integers(0, 39), st.sampled_from(sorted(URL_SAFE)))
def test_a_token_that_was_changed_is_refused(token, at, other):
    """Whichever of its characters was lost on the way."""
    text = str(token)
    assume(text[at] != other)
    with pytest.raises(InvalidToken):
        Token.parse(text[:at] + other + text[at + 1 :])


@pytest.mark.parametrize("garbage", ["", "x", "a" * 40, "é" * 40, "\0" * 40, "a" * 10**6, None, 5])
def test_garbage_is_no_token(garbage):
    """One clear error, which does not repeat a megabyte."""
    with pytest.raises(InvalidToken) as caught:
        Token.parse(garbage)
    assert len(str(caught.value)) < 200


@given(st.integers(0, 2**64 - 1))
def test_positions_are_written_as_postgres_writes_them(lsn):
    """There and back."""
    assert parse_lsn(lsn_text(lsn)) == lsn


def test_positions_by_example():
    """As the documentation of ``pg_lsn`` shows one."""
    assert parse_lsn("16/B374D848") == 0x16B374D848
    assert lsn_text(0x16B374D848) == "16/B374D848"


# A history: each timeline is left at a position, in order, and the next one begins there.
HISTORY = st.lists(st.integers(1, 1000), min_size=0, max_size=5).map(sorted)


@given(HISTORY, st.data())
def test_kept_means_that_it_is_there(switches, data):
    """Against a model in which every write of every timeline is known to be there or lost."""
    current = len(switches) + 1
    lineage = [Line(7, 1, None)]
    lineage += [Line(7, number + 2, switch) for number, switch in enumerate(switches)]
    timeline = data.draw(st.integers(1, current))
    lsn = data.draw(st.integers(1, 1100))
    there = all(lsn <= switch for switch in switches[timeline - 1 :])
    found = standing(Token(1, 7, timeline, lsn), lineage)
    if timeline == current:
        assert found is Standing.CURRENT
    else:
        assert found is (Standing.KEPT if there else Standing.LOST)


@given(HISTORY.filter(len), st.data())
def test_what_nobody_saw_confirms_nothing(switches, data):
    """An unknown switch, or a timeline that is missing, makes earlier tokens worthless."""
    lineage = [Line(7, 1, None)]
    lineage += [Line(7, number + 2, switch) for number, switch in enumerate(switches)]
    blind = data.draw(st.integers(1, len(switches)))
    if data.draw(st.booleans()) or blind == len(switches):
        lineage[blind] = Line(7, blind + 1, None)
    else:
        del lineage[blind]
    token = Token(1, 7, data.draw(st.integers(1, blind)), 1)
    assert standing(token, lineage) is Standing.LOST


def test_other_clusters():
    """Another fleet's token, and one from before the cluster was made anew."""
    assert standing(Token(1, 9, 1, 5), [Line(7, 1, None)]) is Standing.FOREIGN
    assert standing(Token(1, 9, 1, 5), []) is Standing.FOREIGN
    assert standing(Token(1, 9, 1, 5), [Line(9, 1, None), Line(7, 1, None)]) is Standing.LOST
    assert standing(Token(1, 7, 3, 5), [Line(7, 1, None)]) is Standing.LOST
