"""What a failed attempt of a call leaves to the next: decided without I/O."""

from __future__ import annotations

from types import SimpleNamespace

from tenantry.call import Earlier
from tenantry.errors import OutcomeUnknown, ReadInterrupted, ShardUnavailable
from tenantry.served import again


def attempt(earlier, *, replica=None, unheard=False):
    return SimpleNamespace(earlier=earlier, replica=replica, unheard=unheard)


def test_a_replica_that_failed_is_left_out_from_then_on():
    """One that said nothing is not: its session may have ended before."""
    first = again(attempt(Earlier(3.0), replica="a"), ReadInterrupted("it was cancelled\nthere"))
    assert first == (3.0, {"a"}, "ReadInterrupted, it was cancelled")
    second = again(attempt(first, replica="b", unheard=True), ReadInterrupted("gone"))
    assert second == (3.0, {"a"}, "ReadInterrupted, gone")
    assert again(attempt(second), ShardUnavailable("away")).without == {"a"}


def test_what_was_found_out_is_not_told_as_unknown():
    """Such an attempt is followed by another only when it was certainly rolled back."""
    found = again(attempt(Earlier(3.0)), OutcomeUnknown("it may have happened: do not repeat it"))
    assert "rolled back" in found.failure
    assert "may have happened" not in found.failure
