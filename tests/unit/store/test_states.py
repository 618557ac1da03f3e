"""The life of a task, and what failing does to dependents."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry import InvalidInput
from tenantry_schema.states import ON_FAILURE, TRANSITIONS, after_failure, effect, strongest
from tenantry_schema.store.retry import Retry, backoff

ENDED = ("failed", "cancelled", "skipped")


def test_every_state_is_reached_and_the_ended_ones_are_left_by_nothing():
    """Only dead letters come back."""
    states = {after for _, after in TRANSITIONS}
    reached = {"new"}
    while new := {after for before, after in TRANSITIONS if before in reached} - reached:
        reached |= new
    assert states | {"new"} == reached
    assert {"done", "failed", "skipped", "cancelled"} == states - {it for it, _ in TRANSITIONS}


@given(st.sampled_from(ENDED), st.lists(st.sampled_from(ON_FAILURE), max_size=6))
def test_an_effect_never_grows_stronger_along_a_path(ended, policies):
    """So the strongest effect over all paths is the one that the database may compute per path."""
    now = ended
    for policy in policies:
        after = effect(now, policy)
        if after is None:
            return
        assert strongest(frozenset({now, after})) == now
        now = after


@pytest.mark.parametrize(("weak", "strong"), list(product(ENDED, ENDED)))
def test_a_stronger_end_has_no_weaker_effect(weak, strong):
    """Monotone: taking the strongest first or last comes to the same."""
    for policy in ON_FAILURE:
        both = {effect(it, policy) for it in (weak, strong)} - {None}
        first = effect(strongest(frozenset({weak, strong})), policy)
        assert both == set() if first is None else strongest(frozenset(both)) == first


@given(st.integers(1, 50), st.integers(1, 50), st.sampled_from(["failed", "dead"]))
def test_attempts_are_used_up(failures, most, then):
    """Ready while attempts are left."""
    found = after_failure(failures=failures, max_attempts=most, exhausted=then)
    assert found == ("ready" if failures < most else then)


@given(st.integers(1, 200), st.integers(1, 10_000), st.integers(0, 10_000_000), st.floats(0, 1))
def test_back_off_grows_within_its_bounds(failures, first, more, jitter):
    """Between half the ceiling and the ceiling, and never beyond the longest."""
    most = first + more
    found = backoff(failures, first_ms=first, most_ms=most, jitter=jitter)
    ceiling = min(most, first * 2 ** (failures - 1))
    assert timedelta(milliseconds=ceiling / 2) <= found <= timedelta(milliseconds=ceiling)


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"attempts": 1.0},
        {"crashes": -1},
        {"backoff": 0},
        {"backoff": -1.0},
        {"backoff": float("nan")},
        {"backoff": 10, "most": 5},
        {"most": 1e9},
        {"then": "give up"},
    ],
)
def test_impossible_retries_are_refused(wrong):
    """At once, by name."""
    with pytest.raises(InvalidInput, match=next(iter(wrong)) if len(wrong) == 1 else "most"):
        Retry(**wrong)
