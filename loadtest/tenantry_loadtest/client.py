"""What one user holds: the one place that times a routed call and tells Locust of it.

It knows nothing of Locust but what its request event takes, so that it drives a router in an
ordinary thread just as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from tenantry import OutcomeUnknown
from tenantry_loadtest.calls import READS, WRITES
from tenantry_loadtest.history import Outcome, Write
from tenantry_loadtest.workload import REMEMBERED, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tenantry import Router
    from tenantry_loadtest.history import Seat
    from tenantry_loadtest.journal import Journal
    from tenantry_loadtest.workload import Operation


#: Locust's request event, with its arguments by name.
Fire: TypeAlias = Callable[..., None]


class Client:
    """Does a user's operations; no error of the router leaves it.

    :param fire: is told of every call: its kind, its milliseconds, its error
    """

    def __init__(
        self, router: Router, seats: tuple[Seat, ...], journal: Journal, fire: Fire
    ) -> None:
        self._router = router
        self._seats = seats
        self._journal = journal
        self._fire = fire
        self._acknowledged: dict[str, None] = {}

    def do(self, operation: Operation) -> None:
        """Do one operation, and note what became of it."""
        seat = self._seats[operation.seat]
        if operation.kind in WRITES:
            self._write(operation, seat)
        else:
            self._read(operation, seat)

    def _write(self, operation: Operation, seat: Seat) -> None:
        table, call = WRITES[operation.kind]
        self._journal.begin(Write(operation.key, table, seat.key))
        outcome, reason = Outcome.ACKNOWLEDGED, None
        try:
            with self._timed("write", operation.kind):
                call(self._router, seat, operation.key)
        except OutcomeUnknown as error:
            outcome, reason = Outcome.UNKNOWN, _text(error)
        except Exception as error:
            outcome, reason = Outcome.FAILED, _text(error)
        self._journal.end(operation.key, outcome, reason)
        if operation.kind is Kind.ENQUEUE and outcome is Outcome.ACKNOWLEDGED:
            self._remember(operation.key)

    def _read(self, operation: Operation, seat: Seat) -> None:
        try:
            with self._timed("read", operation.kind):
                found = READS[operation.kind](self._router, seat, operation.key)
        except Exception:
            # The request event has told of it; a read that failed says nothing of a write.
            return
        if operation.kind is Kind.READ and not found and operation.key in self._acknowledged:
            self._journal.unread(operation.key)

    def _remember(self, key: str) -> None:
        self._acknowledged[key] = None
        if len(self._acknowledged) > REMEMBERED:
            del self._acknowledged[next(iter(self._acknowledged))]

    @contextmanager
    def _timed(self, request_type: str, kind: Kind) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        except Exception as error:
            self._tell(request_type, kind, started, error)
            raise
        self._tell(request_type, kind, started, None)

    def _tell(self, request_type: str, kind: Kind, started: float, error: Exception | None) -> None:
        self._fire(
            request_type=request_type,
            name=kind,
            response_time=(time.perf_counter() - started) * 1000,
            response_length=0,
            exception=error,
            context={},
        )


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
