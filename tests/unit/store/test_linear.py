"""The judge of recorded histories: what it lets pass, and what it must not."""

from __future__ import annotations

import pytest
from linear import Call, explained, unexplained

LEASE = 10.0


def call(what, owner, fence, held, sent, answered):  # noqa: PLR0917  a table of calls
    return Call("t", what, owner, fence, held, sent, answered)


RIGHT = {
    "one after the other": [
        call("claim", "a", 1, True, 0, 1),
        call("renew", "a", 1, True, 2, 3),
        call("finish", "a", 1, True, 4, 5),
        call("finish", "a", 1, False, 6, 7),
    ],
    "a lease runs out, and its owner comes too late": [
        call("claim", "a", 1, True, 0, 1),
        call("claim", "b", 2, True, 11, 12),
        call("finish", "a", 1, False, 13, 14),
        call("finish", "b", 2, True, 15, 16),
    ],
    "a finish and a claim at once, the claim first": [
        call("claim", "a", 1, True, 0, 1),
        call("finish", "a", 1, False, 10, 14),
        call("claim", "b", 2, True, 11, 12),
    ],
    "a renewal that never came back, and may have been made": [
        call("claim", "a", 1, True, 0, 1),
        call("renew", "a", 1, None, 5, float("inf")),
        call("claim", "b", 2, True, 11, 12),
    ],
    "a finish that never came back, and was made": [
        call("claim", "a", 1, True, 0, 1),
        call("finish", "a", 1, None, 2, float("inf")),
        call("finish", "a", 1, False, 3, 4),
    ],
    "given back, and taken at once": [
        call("claim", "a", 1, True, 0, 1),
        call("release", "a", 1, True, 2, 4),
        call("claim", "b", 2, True, 3, 5),
    ],
}
WRONG = {
    "two owners within one lease": [
        call("claim", "a", 1, True, 0, 1),
        call("claim", "b", 2, True, 5, 6),
    ],
    "two owners with one fence": [
        call("claim", "a", 1, True, 0, 1),
        call("claim", "b", 1, True, 11, 12),
    ],
    "a late finish that was let through": [
        call("claim", "a", 1, True, 0, 1),
        call("claim", "b", 2, True, 11, 12),
        call("finish", "a", 1, True, 13, 14),
    ],
    "an owner that was refused without a reason": [
        call("claim", "a", 1, True, 0, 1),
        call("finish", "a", 1, False, 2, 3),
    ],
    "done twice": [
        call("claim", "a", 1, True, 0, 1),
        call("finish", "a", 1, True, 2, 3),
        call("finish", "a", 1, True, 4, 5),
    ],
    "claimed when it was done": [
        call("claim", "a", 1, True, 0, 1),
        call("finish", "a", 1, True, 2, 3),
        call("claim", "b", 2, True, 20, 21),
    ],
    "a renewal that did not count": [
        call("claim", "a", 1, True, 0, 1),
        call("renew", "a", 1, True, 8, 9),
        call("claim", "b", 2, True, 12, 13),
    ],
    "an answer from before its reason": [
        call("finish", "a", 1, True, 0, 1),
        call("claim", "a", 1, True, 2, 3),
    ],
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_one_owner_explains_is_right(name):
    """Whatever overlaps, and whatever was never answered."""
    assert explained(RIGHT[name], LEASE)


@pytest.mark.parametrize("name", WRONG)
def test_what_none_explains_is_found(name):
    """The task is named, beside one that is right."""
    right = [Call("u", "claim", "a", 1, True, 0, 1)]
    assert unexplained([*WRONG[name], *right], LEASE) == ["t"]
