"""The thread that ends calls at their deadline by shutting their sockets.

A half-open server answers neither a query nor a cancel request, and the kernel keeps acknowledging
for it (measured: a synchronous call sat for more than 12 s with keepalives and ``tcp_user_timeout``
set). Shutting our own side of the socket always wakes the caller, in either colour. Only calls in
flight are held, so a look at all of them costs less than a heap of deadlines that rarely come.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from typing import Protocol

import psycopg

_TICK_S = 0.05


class Shuttable(Protocol):
    """What can be shut: anything with a socket."""

    def fileno(self) -> int:
        """Return the socket's descriptor."""


class Lent(Shuttable, Protocol):
    """A connection that serves one call after another.

    :ivar lease: changes with the call
    """

    lease: int


class Alarm:
    """One call in flight: which connection to shut, when."""

    __slots__ = ("conn", "fired", "lease", "when")

    def __init__(self, conn: Lent, when: float) -> None:
        self.conn = conn
        self.lease = conn.lease
        self.when = when
        self.fired = False


class Watchdog:
    """Shut the sockets of calls that outlive their deadline, at most 50 ms late."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: set[Alarm] = set()
        self._busy = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; starting twice is allowed."""
        if self._thread is None:
            self._stopped = False
            self._thread = threading.Thread(target=self._run, name="tenantry-deadline", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for it."""
        self._stopped = True
        self._busy.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def arm(self, conn: Lent, when: float) -> Alarm:
        """Begin to watch a connection.

        :param when: the deadline on the monotonic clock, in seconds
        """
        alarm = Alarm(conn, when)
        with self._lock:
            self._armed.add(alarm)
        if not self._busy.is_set():
            self._busy.set()
        return alarm

    def disarm(self, alarm: Alarm) -> None:
        """Stop watching: after this returns the connection is never shut for this alarm."""
        with self._lock:
            self._armed.discard(alarm)

    def _run(self) -> None:
        while not self._stopped:
            self._busy.wait()
            with self._lock:
                if not self._armed:
                    self._busy.clear()
                now = time.monotonic()
                for alarm in [alarm for alarm in self._armed if alarm.when <= now]:
                    self._armed.discard(alarm)
                    if alarm.conn.lease == alarm.lease:
                        alarm.fired = True
                        shut(alarm.conn)
            time.sleep(_TICK_S)


def shut(conn: Shuttable) -> None:
    """Shut the socket of a connection without sending anything, and without closing its descriptor.

    The owner sees the end of the stream and closes; closing here could hand the descriptor's number
    to somebody else while the owner still polls it.
    """
    try:
        descriptor = os.dup(conn.fileno())
    except (OSError, psycopg.OperationalError):
        # Its owner was quicker, and has closed it.
        return
    with socket.socket(fileno=descriptor) as handle:
        try:
            handle.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            # The other side was quicker: the stream has ended all the same.
            if error.errno != errno.ENOTCONN:
                raise
