"""Hold the map, and follow the catalog in a thread (design, section 4).

The thread listens for ``NOTIFY`` on its own direct connection, polls because notifications can be
lost, and writes the router's heartbeat. It serves both doors: the map is swapped by one assignment.
With the catalog down the held map stays; the fence makes a late router slow, never wrong. Nothing
waits for a catalog beyond its bound, which is the router's deadline where no call has a nearer one.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg

from tenantry.catalog import directory_lookup, heartbeat, leave, load_map, map_version
from tenantry.catalog_link import CatalogLink
from tenantry.conninfo import parse, shown
from tenantry.drive import drive
from tenantry.errors import CatalogUnavailable, TenantryError
from tenantry.sqlstates import first_line
from tenantry.watchdog import shut
from tenantry_schema.naming import MAP_CHANNEL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from tenantry.catalog_link import CatalogConnection
    from tenantry.keys import TenantKey
    from tenantry.map import Map
    from tenantry.settings import RouterSettings
    from tenantry.watchdog import Watchdog

logger = logging.getLogger("tenantry")

#: Seconds that a closing router gives the catalog to take its name off the list.
_GOODBYE = 1.0


class MapFollower:
    """The newest map that this process has seen.

    :param watchdog: runs for as long as the follower is used
    """

    def __init__(self, settings: RouterSettings, watchdog: Watchdog) -> None:
        self.given = parse(settings.catalog)
        self._settings = settings
        self._link = CatalogLink(self.given, settings.application, watchdog)
        self._map: Map | None = None
        self._reloading = threading.Lock()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._following: CatalogConnection | None = None
        self.router_id: UUID = uuid4()

    @property
    def current(self) -> Map:
        """The map that is held.

        :raises CatalogUnavailable: when none was ever loaded
        """
        held = self._map
        if held is None:
            raise CatalogUnavailable("no map is held: open the router first")
        return held

    def start(self) -> None:
        """Load the map and begin to follow.

        :raises CatalogUnavailable: when the catalog does not answer, or holds no fleet
        """
        self.reload()
        self._wake, self._waker = socket.socketpair()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="tenantry-follow", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop following and wait for the thread, which leaves the list of routers."""
        self._stopped = True
        self._waker.send(b"\0")
        if self._thread is not None:
            self._thread.join(_GOODBYE)
            following = self._following
            if self._thread.is_alive() and following is not None:
                # A catalog that does not answer must not hold the closing up.
                shut(following)
            self._thread.join()
            self._thread = None
        self._wake.close()
        self._waker.close()

    def reload(self, than: Map | None = None, *, within: float | None = None) -> Map:
        """Load the map anew, and return it.

        :param than: a map that was found wanting; when another caller has replaced it meanwhile,
            that newer one is returned without asking the catalog again
        :param within: seconds, default the router's deadline
        :raises CatalogUnavailable: when the catalog does not answer in time, this caller or another
        """
        until = self._until(within)
        with self._alone(until):
            held = self._map
            if than is not None and held is not None and held is not than:
                return held
            with self._link.asked(until) as conn:
                return self._load(conn)

    def tenant_of(self, agent: str) -> TenantKey:
        """Ask the directory whose agent this is.

        :raises UnknownAgent: when the directory has no such agent
        :raises CatalogUnavailable: when the catalog does not answer in time
        """
        with self._link.asked(self._until()) as conn:
            return drive(conn, directory_lookup(agent))

    def _until(self, within: float | None = None) -> float:
        return time.monotonic() + (self._settings.deadline if within is None else within)

    @contextmanager
    def _alone(self, until: float) -> Iterator[None]:
        """Let one at a time load the map; whoever waits for his turn has a bound as well."""
        if not self._reloading.acquire(timeout=max(0.0, until - time.monotonic())):
            raise CatalogUnavailable(
                f"{self._link.where} did not answer in time: the map is being read for somebody "
                "else and has not come yet; check that it runs"
            )
        try:
            yield
        finally:
            self._reloading.release()

    def _guarded(self, conn: CatalogConnection) -> AbstractContextManager[None]:
        return self._link.guarded(conn, self._until())

    def _load(self, conn: psycopg.Connection[Any]) -> Map:
        try:
            with conn.transaction():
                conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                loaded = drive(conn, load_map())
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            raise CatalogUnavailable(
                f"the database at {shown(self.given)} holds no tenantry catalog: run "
                "`tenantry init` first, or correct the router's catalog conninfo"
            ) from error
        held = self._map
        if held is None or loaded.version >= held.version or loaded.fleet_id != held.fleet_id:
            self._map = loaded
            return loaded
        return held

    def _run(self) -> None:
        pause = 0.1
        while not self._stopped:
            try:
                with self._link.connect(self._until()) as conn:
                    with self._guarded(conn):
                        conn.execute(f"LISTEN {MAP_CHANNEL}")
                    pause = 0.1
                    self._following = conn
                    self._follow(conn)
            except (TenantryError, psycopg.Error) as error:
                # Also a map that cannot be: what is held is used until it is mended.
                if not self._stopped:
                    logger.warning("the map is not followed for now: %s", first_line(error))
                    self._sleep(pause)
                    pause = min(pause * 2, self._settings.poll_interval * 5)

    def _follow(self, conn: CatalogConnection) -> None:
        beat_at = 0.0
        while not self._stopped:
            with self._guarded(conn):
                version = drive(conn, map_version())
            if version != self.current.version:
                with self._reloading, self._guarded(conn):
                    self._load(conn)
                beat_at = 0.0
            if time.monotonic() >= beat_at:
                with self._guarded(conn):
                    self._beat(conn)
                beat_at = time.monotonic() + self._settings.heartbeat_interval
            self._sleep(self._settings.poll_interval, conn)
            conn.pgconn.consume_input()
            while conn.pgconn.notifies():
                pass
        with conn.transaction():
            drive(conn, leave(self.router_id))

    def _beat(self, conn: psycopg.Connection[Any]) -> None:
        beat = heartbeat(
            self.router_id,
            application=self._settings.application,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=self.current.version,
        )
        with conn.transaction():
            drive(conn, beat)

    def _sleep(self, seconds: float, conn: psycopg.Connection[Any] | None = None) -> None:
        readers = [self._wake.fileno()] if conn is None else [self._wake.fileno(), conn.fileno()]
        select.select(readers, [], [], seconds)
