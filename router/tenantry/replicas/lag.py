"""How old a replica's answer can be at most, without asking a clock but our own. Pure.

At moment ``t`` the primary is asked for its insert position ``p``: whatever was acknowledged before
``t`` lies before ``p``. A replica that has replayed ``p`` therefore shows everything that was
acknowledged before ``t``: its answer is *as of* ``t`` or newer. The newest such ``t`` is known
without heartbeat rows, and an idle primary does not make it old.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left, bisect_right

_KEPT = 8192
#: A page of WAL, and what its header takes: on the first page of a segment more than on others.
_PAGE, _SHORT_HEADER, _LONG_HEADER = 8192, 24, 40


class Trail:
    """Where a primary's WAL stood at which moment, on one timeline; for all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._moments = array("d")
        self._positions = array("Q")

    def note(self, moment: float, position: int) -> None:
        """Add what the primary answered to a question that was sent at ``moment``.

        :param moment: monotonic seconds just before the question was sent
        """
        with self._lock:
            if self._moments and (moment <= self._moments[-1] or position < self._positions[-1]):
                return
            if len(self._moments) >= _KEPT:
                # Old moments matter less: keep every second one of the older half.
                for kept in (self._moments, self._positions):
                    del kept[: _KEPT // 2 : 2]
            self._moments.append(moment)
            self._positions.append(position)

    def as_of(self, replayed: int) -> float | None:
        """Return the newest moment that a replica shows in full, or None when none is known.

        :param replayed: the position up to which it has replayed
        """
        with self._lock:
            index = bisect_right(self._positions, replayed) - 1
            return None if index < 0 else self._moments[index]

    def needed(self, since: float) -> int | None:
        """Return the position that proves an answer to be as of ``since`` or newer.

        None when the primary was not asked since then.
        """
        with self._lock:
            index = bisect_left(self._moments, since)
            return None if index == len(self._moments) else self._positions[index]


def last_record(position: int, segment: int) -> int:
    """Return an insert position as the end of the record before it.

    On a new page Postgres answers with the place behind the page's header, which no replica reaches
    before the next record: an idle primary would make its replicas look late.

    :param segment: the size of a WAL segment in bytes
    """
    into_page = position % _PAGE
    header = (
        _LONG_HEADER if position - into_page == position // segment * segment else _SHORT_HEADER
    )
    return position - into_page if into_page == header else position
