"""Fairness, without any server: everyone's turn comes, however much the others have."""

from __future__ import annotations

from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from tenantry.work.ring import Ring, Turn

BACKLOGS = st.lists(st.integers(1, 400), min_size=1, max_size=12)


@given(BACKLOGS, st.integers(1, 50))
def test_nobody_waits_for_more_than_a_batch_of_every_other(backlogs, batch):
    """A tenant gets its next batch after at most one batch of each other one."""
    ring = Ring()
    left = {Turn(UUID(int=it), "q"): count for it, count in enumerate(backlogs)}
    ring.offer(left)
    served = dict.fromkeys(left, 0)
    while (turn := ring.take()) is not None:
        took = min(batch, left[turn])
        left[turn] -= took
        served[turn] += 1
        if took == batch:
            ring.offer([turn])
        behind = [served[turn] - served[it] for it in left if it != turn and left[it] > 0]
        assert max(behind, default=0) <= 1
    assert set(left.values()) == {0}


def test_whoever_waits_keeps_its_place():
    """Being offered again is neither a second turn, nor a later one."""
    first, second = Turn(uuid4(), "q"), Turn(uuid4(), None)
    ring = Ring()
    ring.offer([first, second])
    ring.offer([second, first, first])
    assert len(ring) == 2
    assert [ring.take(), ring.take(), ring.take()] == [first, second, None]
