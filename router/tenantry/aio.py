"""The async door: the sync one with ``await``; a test compares their signatures."""

from __future__ import annotations

import asyncio
import time
from functools import partial as bind
from typing import TYPE_CHECKING, Any, Self, TypeVar

from tenantry.acontexts import AsyncRoutedConnectionContext, AsyncRoutedSessionContext
from tenantry.aleasing import AsyncLeasing
from tenantry.call import EXPLAINED_S
from tenantry.drive import adrive
from tenantry.errors import DeadlineExceeded, OutcomeUnknown, Unavailable
from tenantry.outcome import Outcome, find_out
from tenantry.prelude import scatter_prelude, sweep_prelude
from tenantry.retry import Attempts
from tenantry.scatter import ScatterResult, checked_partial, gather
from tenantry.served import again, already_done, with_nodes
from tenantry.sqlstates import is_fence
from tenantry_schema.query import every

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from tenantry.call import Call
    from tenantry.keys import TenantKey
    from tenantry.map import Map, Shard
    from tenantry.prelude import Prelude
    from tenantry.reads import ReadPolicy
    from tenantry.receipt import Receipt
    from tenantry.scatter import Partial
    from tenantry_schema.query import Query, Row, WorkFactory

T = TypeVar("T")


class AsyncRouter(AsyncLeasing):
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

        :raises CatalogUnavailable: when the catalog does not answer in time, or holds no fleet
        """
        if not self._open:
            await asyncio.to_thread(self._begin)
        return self

    async def close(self) -> None:
        """Close every connection; calls in flight end at their own pace or deadline."""
        if self._open:
            self._open = False
            await asyncio.to_thread(self._follower.stop)
            await asyncio.to_thread(self._lookout.stop)
            for serving in self._pools.clear():
                await serving.close()
            await asyncio.to_thread(self._watchdog.stop)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def reload(self) -> Map:
        """Read the map from the catalog now, and return it.

        :raises CatalogUnavailable: when the catalog does not answer within the router's deadline
        """
        self._check_open()
        return await asyncio.to_thread(self._follower.reload)

    async def tenant_of_agent(self, agent: str) -> TenantKey:
        """Return whose agent this is, for ids that were not minted by tenantry.

        The directory in the catalog is asked once: an agent's tenant never changes. A miss is not
        remembered.

        :raises UnknownAgent: when the directory has no such agent
        :raises CatalogUnavailable: when the catalog does not answer within the router's deadline
        """
        found = self._known_agent(agent)
        if found is not None:
            return found
        return self._keep_agent(agent, await asyncio.to_thread(self._follower.tenant_of, agent))

    def session(  # noqa: PLR0913  everything that a caller may say
        self,
        *,
        tenant: TenantKey | None = None,
        agent: UUID | str | None = None,
        read: ReadPolicy | None = None,
        deadline: float | None = None,
        token: bool = False,
        operation: str | None = None,
    ) -> AsyncRoutedSessionContext:
        """Return a context manager that gives an ``AsyncSession`` on the tenant's bucket.

        It commits at its end and rolls back on an error; ``commit()`` inside is allowed.

        :param tenant: the tenant's key; or
        :param agent: the id of one of its agents
        :param read: how old the answer may be, default not at all: the primary
        :param deadline: seconds until the call is ended, default the router's
        :param token: whether ``session.token`` is to say where the commit stands
        :param operation: a key of the work, committed with it: the work is done once
        :raises BucketMoved: when the bucket has a new home: open a new session
        :raises OutcomeUnknown: when a COMMIT was not cleanly acknowledged
        :raises AlreadyDone: when the operation was committed before
        :raises SplitBrain: when two nodes of the shard take writes
        :raises ReadInterrupted: when a replica ended the read: read again
        :raises TooStale: when no replica qualifies and the primary was not allowed
        :raises TokenLost: when a failover lost what the token stood for
        """
        call = self._call(tenant, agent, read, deadline, token=token, operation=operation)
        return AsyncRoutedSessionContext(self, call)

    def connection(  # noqa: PLR0913  everything that a caller may say
        self,
        *,
        tenant: TenantKey | None = None,
        agent: UUID | str | None = None,
        read: ReadPolicy | None = None,
        deadline: float | None = None,
        token: bool = False,
        operation: str | None = None,
    ) -> AsyncRoutedConnectionContext:
        """Return a context manager that gives an async psycopg connection in a routed transaction.

        Arguments and errors as for :meth:`session`; ``conn.receipt``, taken inside the block, says
        how it was served. After a ``commit()`` of your own the connection is routed nowhere: its
        statements find no table.
        """
        call = self._call(tenant, agent, read, deadline, token=token, operation=operation)
        return AsyncRoutedConnectionContext(self, call)

    async def run(  # noqa: PLR0913  everything that a caller may say
        self,
        work: WorkFactory[T],
        *,
        tenant: TenantKey | None = None,
        agent: UUID | str | None = None,
        read: ReadPolicy | None = None,
        deadline: float | None = None,
        token: bool = False,
        operation: str | None = None,
        receipt: Receipt | None = None,
    ) -> T:
        """Run a work in one transaction, again when it was certainly rolled back.

        :param work: called for each attempt; returns a fresh generator of queries
        :param receipt: filled in with how the work was served
        :raises OutcomeUnknown: retried only for a work with an ``operation`` that did not happen
        """
        call = self._call(
            tenant, agent, read, deadline, token=token, operation=operation, receipt=receipt
        )
        attempts = Attempts(self.settings.attempts)
        while True:
            try:
                async with AsyncRoutedConnectionContext(self, call) as conn:
                    return await adrive(conn, work(), conn.conclude)
            except Exception as error:
                pause = await self._pause_after(error, call, attempts)
                if pause is None:
                    raise
                await asyncio.sleep(pause)
                left, earlier = call.remaining, again(call, error)
                if not left:
                    raise
            call = self._call(
                *(tenant, agent, read, left),
                token=token,
                operation=operation,
                receipt=call.receipt,
            )
            call.earlier = earlier

    async def outcome(self, error: OutcomeUnknown, *, deadline: float | None = None) -> Outcome:
        """Find out what became of a COMMIT that was not acknowledged.

        :raises OutcomeUnknown: when the answer itself could not be made durable
        """
        tenant = self._tenant_of(error)
        if tenant is None:
            return Outcome.UNKNOWN
        return await self.run(
            bind(find_out, error, self.map.key_type), tenant=tenant, deadline=deadline
        )

    async def scatter(
        self, query: Query, *, deadline: float | None = None, partial: Partial = "refuse"
    ) -> ScatterResult:
        """Read every shard with one statement, each in its own read-only transaction.

        Tenants' rows are seen only by a role that may read across tenants (``tenantry_operator``),
        through the parents: ``SELECT … FROM fleet.tasks``.

        :param deadline: seconds for each shard, default the router's
        :param partial: ``"refuse"`` raises when a shard fails, ``"accept"`` returns what there is
        :raises InvalidInput: for another ``partial``, before anything is asked
        :raises PartialResult: naming the shards that did not answer
        """
        wanted = checked_partial(partial)
        works = dict.fromkeys(self.map.shards, bind(every, query))
        found = await self._on_shards(scatter_prelude(), works, deadline)
        return gather(found | self._undescribed(), wanted)

    async def sweep(self, queues: Sequence[str], *, deadline: float | None = None) -> ScatterResult:
        """Ask every shard which tenants have something to do.

        Rows are ``(tenant, queue)`` where tasks may be claimed, ``(tenant, None)`` where schedules
        are due. A shard that does not answer is named in the result.

        :param queues: the queues that count
        """
        held, when = self.map, time.monotonic() + self._bound(deadline)
        answers = await self._on_shards(sweep_prelude(), self._sweep_works(queues), deadline)
        if any(isinstance(it, Exception) and is_fence(it) for it in answers.values()):
            within = max(when - time.monotonic(), EXPLAINED_S)
            await asyncio.to_thread(self._follower.reload, held, within=within)
        return gather(answers, "accept")

    async def _pause_after(self, error: Exception, call: Call, attempts: Attempts) -> float | None:
        """Return how long to wait before the next attempt, or None when the error is the answer."""
        if not isinstance(error, OutcomeUnknown) or call.operation is None:
            return attempts.pause_after(error, call)
        try:
            found = await self.outcome(error, deadline=max(call.remaining, 0.001))
        except (OutcomeUnknown, Unavailable, DeadlineExceeded):
            # The caller gets the error that carries what it takes to ask later.
            return None
        if found is Outcome.COMMITTED:
            raise already_done(call) from error
        return 0.0 if found is Outcome.ROLLED_BACK else None

    async def _on_shards(
        self, prelude: Prelude, works: Mapping[int, WorkFactory[list[Row]]], deadline: float | None
    ) -> dict[str, list[Row] | Exception]:
        when = time.monotonic() + self._bound(deadline)
        shards = [shard for number, shard in self.map.shards.items() if number in works]
        answers = await asyncio.gather(
            *(self._on_shard(prelude, works[shard.id], when, shard) for shard in shards)
        )
        return dict(zip((shard.name for shard in shards), answers, strict=True))

    async def _on_shard(
        self, prelude: Prelude, work: WorkFactory[list[Row]], when: float, shard: Shard
    ) -> list[Row] | Exception:
        try:
            serving = await self._serving(with_nodes(shard), None)
            conn = await serving.acquire(when - time.monotonic())
            alarm = self._watchdog.arm(conn, when)
            try:
                await conn.begin(prelude)
                rows = await adrive(conn, work())
                await conn.part()
                return rows
            finally:
                self._watchdog.disarm(alarm)
                await serving.release(conn)
        except Exception as error:
            return error
