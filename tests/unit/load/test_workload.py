"""What users do follows from the seed, and from nothing else."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from tenantry_loadtest.workload import MIX, REMEMBERED, Kind, operations

SEEDS = st.integers(0, 2**31 - 1)


def first(count, *, run="load-x", seed=1, user=0, seats=5):
    return list(islice(operations(run=run, seed=seed, user=user, seats=seats), count))


@given(SEEDS, st.integers(0, 999), st.integers(1, 10_000))
def test_a_seed_says_it_all(seed, user, seats):
    """The same again for the same user, and only the keys differ in another run."""
    mine = first(50, seed=seed, user=user, seats=seats)
    assert mine == first(50, seed=seed, user=user, seats=seats)
    others = first(50, run="load-y", seed=seed, user=user, seats=seats)
    assert [(it.kind, it.seat, it.pause) for it in others] == [
        (it.kind, it.seat, it.pause) for it in mine
    ]
    assert all(0 <= it.seat < seats and it.pause >= 0 for it in mine)


@given(SEEDS)
def test_no_two_operations_share_a_key(seed):
    """Not of one user, nor of two: a row's key names the one write that made it."""
    made = [
        it.key for user in range(3) for it in first(80, seed=seed, user=user) if it.kind in WRITES
    ]
    assert len(made) == len(set(made))
    assert all(key.startswith("load-x-") for key in made)


@given(SEEDS, st.integers(2, 400))
def test_only_what_was_written_is_read_back(seed, count):
    """A task among the user's last ones, of the same tenant."""
    tasks: dict[str, int] = {}
    for it in first(count, seed=seed):
        if it.kind is Kind.READ:
            assert it.seat == tasks[it.key]
            assert it.key in list(tasks)[-REMEMBERED:]
        elif it.kind is Kind.ENQUEUE:
            tasks[it.key] = it.seat


def test_the_mix_and_the_skew():
    """Each kind has about its share; the first of five tenants has 60/137 of the work."""
    made = first(20_000)
    kinds = Counter(it.kind for it in made)
    assert sum(MIX.values()) == 100
    assert all(abs(kinds[kind] / 200 - share) < 2 for kind, share in MIX.items())
    seats = Counter(it.seat for it in made)
    assert abs(seats[0] / len(made) - 60 / 137) < 0.03
    assert [seat for seat, _ in seats.most_common()] == [0, 1, 2, 3, 4]


WRITES = {Kind.ENQUEUE, Kind.LOG, Kind.REGISTER}
