"""When schedules fire: clocks that are put forward and back, intervals, what was missed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.errors import InvalidSchedule
from tenantry_schema.store.cron import LARGEST_CATCH_UP, Rhythm, catch_up, zone

ZONES = ("UTC", "Europe/Vienna", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca")
CRONS = ("* * * * *", "*/20 * * * *", "30 2 * * *", "15 1,2,3 * * *", "0 0 1 * *", "5 12 * * 1-5")
# Hypothesis takes naive bounds, and gives moments in the zone.
MOMENTS = st.datetimes(
    datetime(2024, 1, 1),  # noqa: DTZ001
    datetime(2028, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


def fires(cron, where, begin, end):
    rhythm = Rhythm(cron, None, where)
    found, at = [], begin
    while (at := rhythm.after(at, anchor=begin)) < end:
        found.append(at)
    return found


def walls(moments, where):
    return [f"{it.astimezone(zone(where)):%d %H:%M}" for it in moments]


@pytest.mark.parametrize(
    ("cron", "day", "expected"),
    [
        # 29 March 2026: 02:00 becomes 03:00.
        ("30 2 * * *", (2026, 3, 28, 12), ["29 03:00", "30 02:30"]),
        ("0 3 * * *", (2026, 3, 28, 12), ["29 03:00", "30 03:00"]),
        # 25 October 2026: 03:00 becomes 02:00.
        ("30 2 * * *", (2026, 10, 24, 12), ["25 02:30", "26 02:30"]),
        ("0 0 * * *", (2026, 10, 24, 12), ["25 00:00", "26 00:00"]),
    ],
)
def test_a_fixed_time_fires_once_a_day(cron, day, expected):
    """Also on the day on which it does not exist, or comes twice."""
    begin = datetime(*day, tzinfo=UTC)
    found = fires(cron, "Europe/Vienna", begin, begin + timedelta(days=2))
    assert walls(found, "Europe/Vienna") == expected


@pytest.mark.parametrize("day", [(2026, 3, 29), (2026, 10, 25)])
def test_every_half_hour_is_elapsed_time(day):
    """48 fires in 24 hours, half an hour apart, on both days."""
    begin = datetime(*day, tzinfo=UTC) - timedelta(minutes=1)
    found = fires("*/30 * * * *", "Europe/Vienna", begin, begin + timedelta(days=1))
    assert len(found) == 48
    assert {two - one for one, two in pairwise(found)} == {timedelta(minutes=30)}


@given(st.sampled_from(CRONS), st.sampled_from(ZONES), MOMENTS)
def test_the_next_fire_is_later_and_between_there_is_none(cron, where, moment):
    """Asked from anywhere before it, the answer is the same."""
    rhythm = Rhythm(cron, None, where)
    found = rhythm.after(moment, anchor=moment)
    assert found > moment
    assert found.tzinfo is UTC
    for share in (0.1, 0.5, 0.999):
        between = moment + (found - moment) * share
        if between < found:
            assert rhythm.after(between, anchor=moment) == found


@given(MOMENTS, st.integers(1, 10**6), st.integers(-(10**9), 10**9))
def test_an_interval_stays_on_its_grid(anchor, seconds, offset):
    """Whatever the moment, past or future, the answer is the next point of the grid."""
    every = timedelta(seconds=seconds)
    moment = anchor + timedelta(seconds=offset)
    found = Rhythm(None, every).after(moment, anchor=anchor)
    assert (found - anchor) % every == timedelta(0)
    assert moment < found <= moment + every


@given(st.sampled_from(["skip", "once", "all"]), MOMENTS, st.integers(0, 3000), st.integers(0, 600))
def test_what_was_missed_is_made_as_the_policy_says(misfire, due, late, grace):
    """Compared with walking over every minute."""
    rhythm = Rhythm(None, timedelta(seconds=30))
    now, spare = due + timedelta(seconds=late), timedelta(seconds=grace)
    plan = catch_up(rhythm, due, now, misfire=misfire, grace=spare)
    missed = [due + timedelta(seconds=30) * it for it in range(late // 30 + 1)]
    if misfire == "once":
        assert plan.fires == (due,)
        assert now < plan.next_fire <= now + timedelta(seconds=30)
        return
    wanted = missed if misfire == "all" else [it for it in missed if it >= now - spare]
    if misfire == "skip" and due < now - spare:
        wanted = [it for it in missed if it > now - spare]
    assert list(plan.fires) == wanted[:LARGEST_CATCH_UP]
    assert plan.next_fire not in plan.fires
    assert plan.next_fire > now or len(plan.fires) == LARGEST_CATCH_UP


@pytest.mark.parametrize(
    ("rhythm", "reason"),
    [
        (("* * * *", None), "five fields"),
        (("* * * * * *", None), "five fields"),
        (("61 * * * *", None), "five fields"),
        (("R * * * *", None), "five fields"),
        (("H(1-3) * * * *", None), "five fields"),
        (("@reboot", None), "five fields"),
        (("0 0 * * fools", None), "five fields"),
        (("", None), "five fields"),
        ((None, None), "exactly one"),
        (("* * * * *", timedelta(hours=1)), "exactly one"),
        ((None, timedelta(0)), "at least one second"),
        ((None, timedelta(seconds=-5)), "at least one second"),
        (("* * * * *", None, "Mars/Olympus"), "IANA"),
        (("* * * * *", None, "../etc/passwd"), "IANA"),
        (("* * * * *", None, ""), "IANA"),
        (("* * * * *", None, "a\0b"), "IANA"),
        (("* * * * *", None, None), "IANA"),
    ],
)
def test_an_impossible_rhythm_is_refused(rhythm, reason):
    """By name, before anything is stored."""
    with pytest.raises(InvalidSchedule, match=reason):
        Rhythm(*rhythm)


def test_a_date_that_never_comes_is_refused():
    """30 February."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(InvalidSchedule, match="does not fire"):
        Rhythm("0 0 30 2 *", None).after(now, anchor=now)
