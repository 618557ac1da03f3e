"""Tokens that are no good, of a shard that was left, or where none belongs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from reading import add_agent, count
from sqlalchemy import text

from tenantry import AtLeast, InvalidToken, Receipt, Stale, Token, TokenLost
from tenantry.errors import InvalidInput
from tenantry.replicas.news import wait_for_news


def test_tokens_that_are_no_good(router, door, tenant):
    """Another fleet's, another shard's number, and a place that was never written."""
    token = add_agent(router, tenant)
    for wrong, why in (
        (replace(token, system=token.system + 1), "another fleet"),
        (replace(token, shard=99), "does not have"),
        (replace(token, lsn=token.lsn + 2**40), "has not reached"),
    ):
        with pytest.raises(InvalidToken, match=why):
            door.run(lambda: count(tenant), tenant=tenant, read=AtLeast(wrong))


def test_a_token_of_the_shard_that_the_tenant_has_left(router, door, tenant):
    """It means the primary, once that shard's history confirms that it stands for something."""
    token = add_agent(router, tenant)
    other = next(it for it in router.map.shards.values() if it.id != token.shard)
    watch = door._lookout.watch(other)
    while not watch.state.settled:
        wait_for_news(watch, 1.0)
    receipt = Receipt()
    moved = AtLeast(Token(other.id, watch.state.system, 1, 2**60), otherwise="error")
    assert door.run(lambda: count(tenant), tenant=tenant, read=moved, receipt=receipt) == 1
    assert (receipt.role, receipt.fallback) == ("primary", True)
    for wrong, error in (
        (replace(moved.token, system=token.system), InvalidToken),
        (replace(moved.token, timeline=9), TokenLost),
    ):
        with pytest.raises(error):
            door.run(lambda: count(tenant), tenant=tenant, read=AtLeast(wrong))


def test_what_belongs_to_writes_is_refused_for_reads(router, tenant):
    """And a token that was not asked for is not there."""
    for wrong in ({"token": True}, {"operation": "x"}):
        with pytest.raises(InvalidInput, match="writes"):
            router.session(tenant=tenant, read=Stale(seconds=1), **wrong)
    with router.session(tenant=tenant) as session:
        session.execute(text("SELECT 1"))
    with pytest.raises(InvalidInput, match="token=True"):
        _ = session.token
