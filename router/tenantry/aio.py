"""The async door: the sync one with ``await``; a test compares their signatures."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

import psycopg

from tenantry.acontexts import AsyncRoutedConnectionContext, AsyncRoutedSessionContext
from tenantry.aserving import AsyncServing
from tenantry.call import Call, serves_query
from tenantry.core import RouterCore
from tenantry.drive import adrive
from tenantry.errors import BucketMoved, Unavailable
from tenantry.prelude import scatter_prelude
from tenantry.retry import Attempts
from tenantry.scatter import ScatterResult, gather
from tenantry_schema.naming import SHARED
from tenantry_schema.query import every

if TYPE_CHECKING:
    from uuid import UUID

    from tenantry.keys import TenantKey
    from tenantry.map import Map, Shard
    from tenantry.reads import Fresh
    from tenantry.scatter import Partial
    from tenantry_schema.query import Query, Row, WorkFactory

T = TypeVar("T")

logger = logging.getLogger("tenantry")


class AsyncRouter(RouterCore):
    """Route a service's work to the shard and the bucket where a tenant lives.

    :param catalog: libpq conninfo of the catalog, or None to read ``TENANTRY_CATALOG``
    :param options: the fields of :class:`~tenantry.settings.RouterSettings`
    :raises InvalidConfig: for a setting that cannot be used

    Use it as an async context manager; it belongs to one event loop.
    """

    def __init__(self, catalog: str | None = None, **options: Any) -> None:
        super().__init__(catalog, options)

    async def open(self) -> Self:
        """Load the map and begin to follow it.

        :raises CatalogUnavailable: when the catalog does not answer, or holds no fleet
        """
        if not self._open:
            await asyncio.to_thread(self._follower.start)
            self._watchdog.start()
            self._open = True
        return self

    async def close(self) -> None:
        """Close every connection; calls in flight end at their own pace or deadline."""
        if self._open:
            self._open = False
            await asyncio.to_thread(self._follower.stop)
            for serving in self._pools.clear():
                await serving.close()
            await asyncio.to_thread(self._watchdog.stop)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def reload(self) -> Map:
        """Read the map from the catalog now, and return it."""
        self._check_open()
        return await asyncio.to_thread(self._follower.reload)

    async def tenant_of_agent(self, agent: str) -> TenantKey:
        """Return whose agent this is, for ids that were not minted by tenantry.

        The directory in the catalog is asked once: an agent's tenant never changes. A miss is not
        remembered.

        :raises UnknownAgent: when the directory has no such agent
        :raises CatalogUnavailable: when the catalog does not answer
        """
        found = self._known_agent(agent)
        if found is not None:
            return found
        return self._keep_agent(agent, await asyncio.to_thread(self._follower.tenant_of, agent))

    def session(
        self,
        *,
        tenant: TenantKey | None = None,
        agent: UUID | str | None = None,
        read: Fresh | None = None,
        deadline: float | None = None,
    ) -> AsyncRoutedSessionContext:
        """Return a context manager that gives an ``AsyncSession`` on the tenant's bucket.

        It commits at its end and rolls back on an error; ``commit()`` inside is allowed.

        :param tenant: the tenant's key; or
        :param agent: the id of one of its agents
        :param deadline: seconds until the call is ended, default the router's
        :raises BucketMoved: when the bucket has a new home: open a new session
        :raises OutcomeUnknown: when a COMMIT was not cleanly acknowledged
        """
        return AsyncRoutedSessionContext(self, self._call(tenant, agent, read, deadline))

    def connection(
        self,
        *,
        tenant: TenantKey | None = None,
        agent: UUID | str | None = None,
        read: Fresh | None = None,
        deadline: float | None = None,
    ) -> AsyncRoutedConnectionContext:
        """Return a context manager that gives an async psycopg connection in a routed transaction.

        Arguments and errors as for :meth:`session`. After a ``commit()`` of your own the connection
        is routed nowhere: its statements find no table.
        """
        return AsyncRoutedConnectionContext(self, self._call(tenant, agent, read, deadline))

    async def run(
        self,
        work: WorkFactory[T],
        *,
        tenant: TenantKey | None = None,
        agent: UUID | str | None = None,
        read: Fresh | None = None,
        deadline: float | None = None,
    ) -> T:
        """Run a work in one transaction, again when it was certainly rolled back.

        :param work: called for each attempt; returns a fresh generator of queries
        :raises OutcomeUnknown: never retried
        """
        call = self._call(tenant, agent, read, deadline)
        attempts = Attempts(self.settings.attempts)
        while True:
            try:
                async with AsyncRoutedConnectionContext(self, call) as conn:
                    return await adrive(conn, work())
            except Exception as error:
                pause = attempts.pause_after(error, call)
                if pause is None:
                    raise
            await asyncio.sleep(pause)
            call = self._call(tenant, agent, read, call.remaining)

    async def scatter(
        self, query: Query, *, deadline: float | None = None, partial: Partial = "refuse"
    ) -> ScatterResult:
        """Read every shard with one statement, each in its own read-only transaction.

        Tenants' rows are seen only by a role that may read across tenants (``tenantry_operator``),
        through the parents: ``SELECT … FROM fleet.tasks``.

        :param deadline: seconds for each shard, default the router's
        :param partial: ``"refuse"`` raises when a shard fails, ``"accept"`` returns what there is
        :raises PartialResult: naming the shards that did not answer
        """
        self._check_open()
        when = time.monotonic() + self._bound(deadline)
        shards = list(self.map.shards.values())
        answers = await asyncio.gather(*(self._scatter_one(query, when, it) for it in shards))
        named = dict(zip((shard.name for shard in shards), answers, strict=True))
        return gather(named, partial)

    def stats(self) -> dict[str, dict[str, Any]]:
        """Return the counters of every open pool by shard name."""
        return {shard.name: serving.stats() for shard, serving in self._pools.all()}

    async def serving(self, shard: Shard) -> AsyncServing:
        """Return what serves a shard, opening its pool when it is first needed."""
        found: AsyncServing | None = self._pools.find(shard)
        if found is not None:
            return found
        opened, former = self._pools.open(shard, AsyncServing)
        if former is not None:
            await former.close()
        return opened

    async def explained(self, call: Call, error: BaseException) -> BaseException:
        """Return the error that the caller should get; reload the map when it may be the reason."""
        if call.suspects_fence(error):
            try:
                newer = await asyncio.to_thread(self._follower.reload, call.of)
                moved = call.moved(newer) or await self._gone(call)
            except (Unavailable, psycopg.Error) as failure:
                logger.warning("an error is not explained by the catalog: %s", failure)
                moved = None
            if moved is not None:
                return moved
        return call.explain(error) or error

    async def _gone(self, call: Call) -> BucketMoved | None:
        serving = await self.serving(self.shard_of(call))
        conn = await serving.acquire(call.remaining)
        try:
            cursor = await conn.execute(serves_query(call.route.placement.schema))
            row = await cursor.fetchone()
        finally:
            await serving.release(conn)
        return call.gone("on its way to a new home") if row == (False,) else None

    async def _scatter_one(self, query: Query, when: float, shard: Shard) -> list[Row] | Exception:
        try:
            serving = await self.serving(shard)
            conn = await serving.acquire(when - time.monotonic())
            alarm = self._watchdog.arm(conn, when)
            try:
                await conn.begin(scatter_prelude(), SHARED)
                rows = await adrive(conn, every(query))
                await conn.rollback()
                return rows
            finally:
                self._watchdog.disarm(alarm)
                await serving.release(conn)
        except Exception as error:
            return error
