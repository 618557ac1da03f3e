"""Connections to the catalog that end in time: while they are made, and while they are asked.

psycopg bounds each host of a conninfo in whole seconds, from 2 on; here one moment bounds all of
them. Once it is there, a connection is ended by the watchdog, as a routed one is.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

import psycopg
from psycopg import errors as pg

from tenantry.conninfo import catalog_conninfo, shown
from tenantry.errors import CatalogUnavailable
from tenantry.sqlstates import first_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg.abc import PQGenConn

    from tenantry.watchdog import Watchdog

#: The moment on the monotonic clock at which connecting is given up.
_UNTIL: ContextVar[float] = ContextVar("tenantry_catalog_until", default=float("inf"))


class CatalogConnection(psycopg.Connection[Any]):
    """A connection that is not waited for beyond a moment."""

    #: It is never lent to another caller, for whom a late alarm could be.
    lease: int = 0

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> PQGenConn[Self]:
        return _in_time(super()._connect_gen(conninfo), _UNTIL.get())


class CatalogLink:
    """How the catalog is reached.

    :param given: the parsed conninfo of the catalog
    """

    def __init__(self, given: dict[str, Any], application: str, watchdog: Watchdog) -> None:
        self._given = given
        self._conninfo = catalog_conninfo(given, application)
        self._watchdog = watchdog

    @property
    def where(self) -> str:
        """The catalog's place, for messages."""
        return f"the catalog at {shown(self._given)}"

    @contextmanager
    def asked(self, until: float) -> Iterator[CatalogConnection]:
        """Give a connection for something that ends by a moment.

        :param until: on the monotonic clock, in seconds
        :raises CatalogUnavailable: when the catalog does not answer by then
        """
        with self.connect(until) as conn, self.guarded(conn, until):
            yield conn

    def connect(self, until: float) -> CatalogConnection:
        """Connect.

        :raises CatalogUnavailable: when the catalog does not answer by then
        """
        held = _UNTIL.set(until)
        try:
            return CatalogConnection.connect(
                self._conninfo, autocommit=True, prepare_threshold=None
            )
        except psycopg.OperationalError as error:
            raise CatalogUnavailable(
                f"{self.where} does not answer: {first_line(error)}; check that it runs, and the "
                "router's catalog conninfo"
            ) from error
        finally:
            _UNTIL.reset(held)

    @contextmanager
    def guarded(self, conn: CatalogConnection, until: float) -> Iterator[None]:
        """Let the watchdog end a connection that has not answered by a moment.

        :raises CatalogUnavailable: when it has not, or the catalog went away
        """
        alarm = self._watchdog.arm(conn, until)
        try:
            yield
        except psycopg.OperationalError as error:
            why = "did not answer in time" if alarm.fired else "went away while it was asked"
            raise CatalogUnavailable(
                f"{self.where} {why}: {first_line(error)}; check that it runs"
            ) from error
        finally:
            self._watchdog.disarm(alarm)


def _in_time(connecting: PQGenConn[Any], until: float) -> PQGenConn[Any]:
    """Go on with connecting until a moment: psycopg looks ten times a second, answer or none."""
    try:
        _check(until)
        awaited = next(connecting)
        while True:
            ready = yield awaited
            _check(until)
            awaited = connecting.send(ready)
    except StopIteration as stop:
        return stop.value
    finally:
        connecting.close()


def _check(until: float) -> None:
    if time.monotonic() >= until:
        raise pg.ConnectionTimeout("the time for connecting is over")
