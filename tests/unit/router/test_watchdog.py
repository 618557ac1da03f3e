"""The thread that shuts sockets at their deadline."""

from __future__ import annotations

import socket
import time

import psycopg
import pytest

from tenantry.watchdog import Watchdog


class Lent:
    """What a pool lends: a socket, and how often it was lent."""

    def __init__(self):
        self.near, self.far = socket.socketpair()
        self.lease = 1

    def fileno(self):
        return self.near.fileno()


class Lost(Lent):
    """A connection that the driver has given up, as psycopg says it."""

    def fileno(self):
        raise psycopg.OperationalError("the connection is lost")


@pytest.fixture
def watchdog():
    made = Watchdog()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def lend():
    """Make connections of a kind, and close what is left of them."""
    made = []

    def one(kind=Lent):
        made.append(kind())
        return made[-1]

    yield one
    for lent in made:
        lent.near.close()
        lent.far.close()


def ended(lent, seconds):
    """Say whether the other side sees the end of the stream."""
    lent.far.settimeout(seconds)
    try:
        return lent.far.recv(1) == b""
    except TimeoutError:
        return False


def test_a_call_is_ended_at_its_deadline(watchdog, lend):
    """Not one that was disarmed, nor one whose connection is somebody else's by now."""
    late, done, lent_on = lend(), lend(), lend()
    now = time.monotonic()
    alarms = [watchdog.arm(it, now + 0.05) for it in (late, done, lent_on)]
    watchdog.disarm(alarms[1])
    lent_on.lease += 1
    assert ended(late, 5)
    assert not ended(done, 0.2)
    assert not ended(lent_on, 0.2)
    assert [it.fired for it in alarms] == [True, False, False]


def test_a_connection_that_was_lost_meanwhile_ends_nobody_elses_deadline(watchdog, lend):
    """The thread goes on: closed by the driver, or by the system."""
    closed, late = lend(), lend()
    closed.near.close()
    for it in (lend(Lost), closed):
        watchdog.arm(it, 0.0)
    alarm = watchdog.arm(late, time.monotonic() + 0.1)
    assert ended(late, 5)
    assert alarm.fired
