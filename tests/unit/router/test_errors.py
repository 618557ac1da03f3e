"""Errors are values that other processes can be told."""

from __future__ import annotations

import pickle

import pytest

import tenantry.errors
from tenantry.errors import OutcomeUnknown, TenantryError

EVERY = [getattr(tenantry.errors, name) for name in tenantry.errors.__all__]


@pytest.mark.parametrize("kind", EVERY, ids=lambda it: it.__name__)
def test_an_error_is_found_where_it_says_that_it_is(kind):
    """Also by pickle, as worker processes tell each other of errors."""
    assert issubclass(kind, TenantryError)
    again = pickle.loads(pickle.dumps(kind("why")))
    assert (type(again), str(again)) == (kind, "why")


def test_what_finds_an_outcome_goes_with_its_error():
    """The process that asks may be another one."""
    error = OutcomeUnknown("why", xid="7", node="n", operation="once")
    again = pickle.loads(pickle.dumps(error))
    assert vars(again) == vars(error)
