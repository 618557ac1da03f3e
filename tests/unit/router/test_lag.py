"""The bound on a replica's age is never below its true age, whatever happens in between."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from tenantry.replicas.lag import Trail, last_record

# What happens, each some time after the other: so many bytes are written and acknowledged, the
# primary is sent a question, looks where it stands, its answer arrives, the replica replays a share
# of what it lacks, it is looked at. Anything may happen between question, look and answer.
EVENT = st.tuples(
    st.floats(0.001, 5),
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 5000)),
        st.tuples(st.sampled_from(["ask", "look", "answer", "check"]), st.just(0)),
        st.tuples(st.just("replay"), st.floats(0, 1)),
    ),
)


class World:
    """A primary and a replica, whose every write and its moment is known."""

    def __init__(self):
        self.now = 0.0
        self.position = 1000
        self.writes = []  # (moment of acknowledgement, end position)
        self.replayed = 1000
        self.sent = None  # the moment of the question that is under way
        self.seen = None  # where the primary stood when it looked

    def write(self, size):
        self.position += size
        self.writes.append((self.now, self.position))

    def replay(self, share):
        self.replayed += int((self.position - self.replayed) * share)

    def ask(self):
        if self.sent is None:
            self.sent, self.seen = self.now, None

    def look(self):
        if self.sent is not None and self.seen is None:
            self.seen = self.position

    def answer(self, trail):
        if self.seen is not None:
            trail.note(self.sent, self.seen)
            self.sent = self.seen = None

    def true_age(self):
        """Return how long ago the oldest write that the replica lacks was acknowledged."""
        missing = [moment for moment, end in self.writes if end > self.replayed]
        return self.now - min(missing) if missing else 0.0


@given(st.lists(EVENT, max_size=60))
def test_the_bound_is_never_below_the_true_age(events):
    """A replica's answer lacks no write that was acknowledged before the as-of moment."""
    world, trail = World(), Trail()
    for pause, (kind, amount) in events:
        world.now += pause
        if kind == "write":
            world.write(amount)
        elif kind == "replay":
            world.replay(amount)
        elif kind == "ask":
            world.ask()
        elif kind == "look":
            world.look()
        elif kind == "answer":
            world.answer(trail)
        else:
            as_of = trail.as_of(world.replayed)
            if as_of is not None:
                assert world.now - as_of >= world.true_age()


@given(st.lists(st.tuples(st.floats(0.01, 1), st.integers(0, 100)), min_size=1, max_size=50))
def test_what_is_needed_proves_what_was_asked(steps):
    """A replica that has replayed what is needed for a moment shows that moment, or a newer one."""
    trail, moment, position = Trail(), 0.0, 0
    for pause, size in steps:
        moment, position = moment + pause, position + size
        trail.note(moment, position)
    for since in (0.0, moment / 2, moment):
        needed = trail.needed(since)
        assert needed is not None
        assert trail.as_of(needed) >= since
    assert trail.needed(moment + 0.1) is None


def test_nothing_is_known_of_what_was_never_asked():
    """Unknown is unknown, not fresh."""
    trail = Trail()
    assert trail.as_of(10**12) is None
    trail.note(1.0, 500)
    assert trail.as_of(499) is None
    assert trail.as_of(500) == 1.0


def test_a_long_memory_is_thinned_never_wrong():
    """Old moments become coarser, so that the bound becomes larger, not smaller."""
    trail = Trail()
    for number in range(50_000):
        trail.note(float(number), number * 10)
    assert trail.as_of(10**12) == 49_999.0
    for number in (1, 777, 20_000, 49_000):
        as_of = trail.as_of(number * 10)
        assert as_of is None or as_of <= number
    assert trail.as_of(49_990 * 10) == 49_990.0


def test_an_answer_that_came_late_is_not_taken():
    """Positions and moments only grow: what would turn them back is left out."""
    trail = Trail()
    trail.note(2.0, 200)
    trail.note(1.0, 300)
    trail.note(3.0, 100)
    assert trail.as_of(10**12) == 2.0


def test_a_new_page_is_reached_without_its_header():
    """As Postgres 15 and 18 answer after ``pg_switch_wal()``: 28 hexadecimal is 40."""
    segment = 16 << 20
    assert last_record(0x5000028, segment) == 0x5000000
    assert last_record(0x5002018, segment) == 0x5002000
    assert last_record(0x5002028, segment) == 0x5002028
    assert last_record(0x5000018, segment) == 0x5000018
    assert last_record(0x5001000, segment) == 0x5001000
