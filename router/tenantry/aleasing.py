"""Open a call's transaction where it may be served, and give its connection back; async."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import psycopg

from tenantry.aserving import AsyncServing
from tenantry.call import EXPLAINED_S, Call, serves_query
from tenantry.errors import BucketMoved, TooStale, Unavailable
from tenantry.lease import AsyncLease
from tenantry.replicas.news import await_news
from tenantry.replicas.plan import Ask, News, OnReplica
from tenantry.served import Served, awaited

if TYPE_CHECKING:
    from tenantry.map import Node, Shard
    from tenantry.replicas.plan import Answer, Chosen
    from tenantry.replicas.watch import ShardWatch

logger = logging.getLogger("tenantry")


class AsyncLeasing(Served):
    """What the async door does with connections."""

    async def primary(self, call: Call) -> AsyncServing:
        """Return what serves the primary of a call's shard."""
        return await self._serving(self.shard_of(call), None)

    async def lease(self, call: Call) -> AsyncLease:
        """Open the call's transaction where it may be served."""
        if call.read is not None:
            found = await self.lease_replica(call)
            if found is not None:
                return found
        serving = await self.primary(call)
        lease = AsyncLease(serving, await serving.acquire(call.remaining))
        serving.in_use += 1
        call.watch(lease.conn)
        try:
            self.opened(call, await lease.conn.begin(call.opening))
        except BaseException as error:
            await self.give_up(lease, call)
            explained = await self.explained(call, error)
            if explained is not error:
                raise explained from error
            raise
        return lease

    async def lease_replica(self, call: Call, *, orm: bool = False) -> AsyncLease | None:
        """Open a declared read on a replica, or return None where the primary is to answer."""
        plan, watch = self._plan(call)
        lease: AsyncLease | None = None
        try:
            step = next(plan)
            while True:
                await self._give_up_replica(lease, call)
                lease, answer = await self._take(step, call, watch, orm=orm)
                step = plan.send(answer)
        except StopIteration as stop:
            chosen: Chosen = stop.value
        except BaseException as error:
            await self._give_up_replica(lease, call)
            if isinstance(error, TooStale):
                self._counts.add(call.read, "refused")
            raise
        if not isinstance(chosen, OnReplica):
            await self._give_up_replica(lease, call)
            lease = None
        self.chosen(call, chosen)
        return lease

    async def give_back(self, lease: AsyncLease, call: Call) -> None:
        """Return a connection to its pool."""
        call.unwatch()
        lease.serving.in_use -= 1
        if lease.orm is None:
            await lease.serving.release(lease.conn)
        else:
            await lease.orm.close()

    async def give_up(self, lease: AsyncLease, call: Call) -> None:
        """Roll back and return a connection to its pool."""
        await lease.conn.abandon()
        await self.give_back(lease, call)

    async def explained(self, call: Call, error: BaseException) -> BaseException:
        """Return the error that the caller should get; reload the map when it may be the reason."""
        if call.suspects_fence(error):
            try:
                within = max(call.remaining, EXPLAINED_S)
                newer = await asyncio.to_thread(self._follower.reload, call.of, within=within)
                moved = call.moved(newer) or await self._gone(call)
            except (Unavailable, psycopg.Error) as failure:
                logger.warning("an error is not explained by the catalog: %s", failure)
                moved = None
            if moved is not None:
                return moved
        return self.told(call, error)

    async def _take(
        self, step: Ask | News, call: Call, watch: ShardWatch, *, orm: bool
    ) -> tuple[AsyncLease | None, Answer]:
        if isinstance(step, Ask):
            return await self._ask(step, call, watch, orm=orm)
        await await_news(watch, step.until - time.monotonic())
        return None, None

    async def _ask(
        self, step: Ask, call: Call, watch: ShardWatch, *, orm: bool
    ) -> tuple[AsyncLease | None, Answer]:
        node = step.node
        serving = await self._serving(watch.shard, node)
        try:
            patience = self.replica_patience(call)
            # SQLAlchemy may have questions of its own to a server, before any of ours.
            said = None if orm else step.said
            lease = AsyncLease(serving, await serving.acquire(patience, said=said))
        except (psycopg.Error, Unavailable) as error:
            return None, error
        serving.in_use += 1
        call.replica = node.name
        call.proven = lease.conn.proven(step.said)
        call.awaited = awaited(call.read, step, lease.conn)
        call.watch(lease.conn)
        asked = time.monotonic()
        try:
            if orm:
                lease.orm = await serving.adopt(lease.conn)
            answers = await lease.conn.begin(call.opening)
            call.unheard = lease.conn.opening is not None
            return lease, self.replica_position(call, answers, step.timeline)
        except Exception as error:
            await self._give_up_replica(lease, call)
            if call.remaining <= 0:
                watch.hung(node.name, time.monotonic() - asked)
                raise (call.explain(error) or error) from error
            return None, error
        except BaseException:
            await self._give_up_replica(lease, call)
            raise

    async def _give_up_replica(self, lease: AsyncLease | None, call: Call) -> None:
        call.replica = None
        if lease is not None:
            await self.give_up(lease, call)

    async def _serving(self, shard: Shard, node: Node | None) -> AsyncServing:
        found: AsyncServing | None = self._pools.find(shard, node)
        if found is not None:
            return found
        opened, former = self._pools.open(shard, node, AsyncServing)
        for serving in former:
            await serving.close()
        return opened

    async def _gone(self, call: Call) -> BucketMoved | None:
        serving = await self.primary(call)
        # An error that came near the deadline is explained all the same.
        patience = max(call.remaining, EXPLAINED_S)
        conn = await serving.acquire(patience)
        alarm = self._watchdog.arm(conn, time.monotonic() + patience)
        try:
            cursor = await conn.execute(serves_query(call.route.placement.schema))
            row = await cursor.fetchone()
        finally:
            self._watchdog.disarm(alarm)
            await serving.release(conn)
        return call.gone("on its way to a new home") if row == (False,) else None
