"""Open a call's transaction where it may be served, and give its connection back; sync."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import psycopg

from tenantry.call import EXPLAINED_S, Call, serves_query
from tenantry.errors import BucketMoved, TooStale, Unavailable
from tenantry.lease import Lease
from tenantry.replicas.news import wait_for_news
from tenantry.replicas.plan import Ask, News, OnReplica
from tenantry.served import Served, awaited
from tenantry.serving import Serving

if TYPE_CHECKING:
    from tenantry.map import Node, Shard
    from tenantry.replicas.plan import Answer, Chosen
    from tenantry.replicas.watch import ShardWatch

logger = logging.getLogger("tenantry")


class Leasing(Served):
    """What the sync door does with connections."""

    def primary(self, call: Call) -> Serving:
        """Return what serves the primary of a call's shard."""
        return self._serving(self.shard_of(call), None)

    def lease(self, call: Call) -> Lease:
        """Open the call's transaction where it may be served."""
        if call.read is not None:
            found = self.lease_replica(call)
            if found is not None:
                return found
        serving = self.primary(call)
        lease = Lease(serving, serving.acquire(call.remaining))
        serving.in_use += 1
        call.watch(lease.conn)
        try:
            self.opened(call, lease.conn.begin(call.opening))
        except BaseException as error:
            self.give_up(lease, call)
            explained = self.explained(call, error)
            if explained is not error:
                raise explained from error
            raise
        return lease

    def lease_replica(self, call: Call, *, orm: bool = False) -> Lease | None:
        """Open a declared read on a replica, or return None where the primary is to answer."""
        plan, watch = self._plan(call)
        lease: Lease | None = None
        try:
            step = next(plan)
            while True:
                self._give_up_replica(lease, call)
                lease, answer = self._take(step, call, watch, orm=orm)
                step = plan.send(answer)
        except StopIteration as stop:
            chosen: Chosen = stop.value
        except BaseException as error:
            self._give_up_replica(lease, call)
            if isinstance(error, TooStale):
                self._counts.add(call.read, "refused")
            raise
        if not isinstance(chosen, OnReplica):
            self._give_up_replica(lease, call)
            lease = None
        self.chosen(call, chosen)
        return lease

    def give_back(self, lease: Lease, call: Call) -> None:
        """Return a connection to its pool."""
        call.unwatch()
        lease.serving.in_use -= 1
        if lease.orm is None:
            lease.serving.release(lease.conn)
        else:
            lease.orm.close()

    def give_up(self, lease: Lease, call: Call) -> None:
        """Roll back and return a connection to its pool."""
        lease.conn.abandon()
        self.give_back(lease, call)

    def explained(self, call: Call, error: BaseException) -> BaseException:
        """Return the error that the caller should get; reload the map when it may be the reason."""
        if call.suspects_fence(error):
            try:
                within = max(call.remaining, EXPLAINED_S)
                newer = self._follower.reload(than=call.of, within=within)
                moved = call.moved(newer) or self._gone(call)
            except (Unavailable, psycopg.Error) as failure:
                logger.warning("an error is not explained by the catalog: %s", failure)
                moved = None
            if moved is not None:
                return moved
        return self.told(call, error)

    def _take(
        self, step: Ask | News, call: Call, watch: ShardWatch, *, orm: bool
    ) -> tuple[Lease | None, Answer]:
        if isinstance(step, Ask):
            return self._ask(step, call, watch, orm=orm)
        wait_for_news(watch, step.until - time.monotonic())
        return None, None

    def _ask(
        self, step: Ask, call: Call, watch: ShardWatch, *, orm: bool
    ) -> tuple[Lease | None, Answer]:
        node = step.node
        serving = self._serving(watch.shard, node)
        try:
            patience = self.replica_patience(call)
            # SQLAlchemy may have questions of its own to a server, before any of ours.
            said = None if orm else step.said
            lease = Lease(serving, serving.acquire(patience, said=said))
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
                lease.orm = serving.adopt(lease.conn)
            answers = lease.conn.begin(call.opening)
            call.unheard = lease.conn.opening is not None
            return lease, self.replica_position(call, answers, step.timeline)
        except Exception as error:
            self._give_up_replica(lease, call)
            if call.remaining <= 0:
                watch.hung(node.name, time.monotonic() - asked)
                raise (call.explain(error) or error) from error
            return None, error
        except BaseException:
            self._give_up_replica(lease, call)
            raise

    def _give_up_replica(self, lease: Lease | None, call: Call) -> None:
        call.replica = None
        if lease is not None:
            self.give_up(lease, call)

    def _serving(self, shard: Shard, node: Node | None) -> Serving:
        found: Serving | None = self._pools.find(shard, node)
        if found is not None:
            return found
        opened, former = self._pools.open(shard, node, Serving)
        for serving in former:
            serving.close()
        return opened

    def _gone(self, call: Call) -> BucketMoved | None:
        serving = self.primary(call)
        # An error that came near the deadline is explained all the same.
        patience = max(call.remaining, EXPLAINED_S)
        conn = serving.acquire(patience)
        alarm = self._watchdog.arm(conn, time.monotonic() + patience)
        try:
            row = conn.execute(serves_query(call.route.placement.schema)).fetchone()
        finally:
            self._watchdog.disarm(alarm)
            serving.release(conn)
        return call.gone("on its way to a new home") if row == (False,) else None
