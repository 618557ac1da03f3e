"""Do the steps of a plan: SQL where that is enough, hands where it is not."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import psycopg

from tenantry_ops.failover.ask import ask_shard, node_conninfo
from tenantry_ops.failover.outside import call_hook, instructions
from tenantry_ops.locking import take_lock
from tenantry_schema.errors import FailoverUnfinished

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tenantry_ops.failover.gate import Gate
    from tenantry_ops.failover.hands import Hands
    from tenantry_ops.failover.record import ShardRecord
    from tenantry_ops.failover.standing import ShardStanding
    from tenantry_ops.failover.steps import Step

_LOOK_S = 0.005
_WAIT_S = 60.0
_CLOSED = "SELECT current_setting('default_transaction_read_only') = %s"
_END_SESSIONS = """
SELECT count(pg_terminate_backend(pid)) = 0 FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> ALL (%s)
    AND NOT (SELECT rolsuper FROM pg_roles WHERE oid = usesysid)
"""
_WRITTEN = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"
_RECEIVED = """
SELECT (greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0'::pg_lsn)::bigint
        >= %(received)s
    AND (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint >= %(replayed)s
"""
_IS_PRIMARY = "SELECT NOT pg_is_in_recovery()"
CERTIFY = "SELECT tenantry.certify_lineage(pg_postmaster_start_time())"


class Actor:
    """Does steps on the nodes of one shard.

    :param given: the catalog's conninfo: who connects, and how
    :param hook: the operator's command that makes a server of theirs a replica
    :ivar remaining: what is left to the operator, in words
    """

    def __init__(  # noqa: PLR0913  collaborators
        self,
        record: ShardRecord,
        given: Mapping[str, Any],
        *,
        hands: Hands,
        gates: Sequence[Gate] = (),
        hook: str | None = None,
        pause_s: float = 10.0,
    ) -> None:
        self.record = record
        self.hands = hands
        self.gates = gates
        self.remaining: list[str] = []
        self.journal_pid: Callable[[], int | None] = lambda: None
        self._given = given
        self._hook = hook
        self._pause_s = pause_s
        self._stack = ExitStack()
        self._conns: dict[str, psycopg.Connection[Any]] = {}
        self._head = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def ask(self) -> ShardStanding:
        """Ask all nodes where they stand."""
        return ask_shard(self.record, self._given, ended=self.hands.ended)

    def lock(self, shard: ShardStanding) -> None:
        """Keep other processes from changing the primary of this shard.

        The catalog may be unable to hold a lock; a session of every node that answers can, on a
        replica as well, and keeps it when that is promoted.

        :raises OperationInProgress: when another process does
        """
        for node in shard.nodes:
            if node.answers:
                take_lock(self._conn(node.node), "shard", self.record.name)

    def do(self, step: Step) -> None:
        """Do one step; doing it again does no harm."""
        act: Callable[[Step], None] = getattr(self, f"_{step.do.name.lower()}")
        act(step)

    def lead_back(self, node: str) -> None:
        """Let clients go on, whatever has happened: to the node that is most likely to serve."""
        for gate in self.gates:
            self._lead(gate, node)

    def _conn(self, node: str) -> psycopg.Connection[Any]:
        held = self._conns.get(node)
        if held is None or held.closed:
            conninfo = node_conninfo(self._given, self.record.node(node), "tenantry-shard")
            held = psycopg.connect(conninfo, autocommit=True)
            # Nobody may be left to confirm what is written here.
            held.execute("SET synchronous_commit = local")
            self._conns[node] = self._stack.enter_context(held)
        return held

    def _forget(self, node: str) -> None:
        held = self._conns.pop(node, None)
        if held is not None:
            held.close()

    def _checkpoint(self, step: Step) -> None:
        self._conn(step.node).execute("CHECKPOINT")

    def _pause(self, _step: Step) -> None:
        for gate in self.gates:
            gate.pause(self._pause_s)

    def _stop(self, step: Step) -> None:
        self._forget(step.node)
        self.hands.stop(step.node, self._pause_s)

    def _fence(self, step: Step) -> None:
        self._forget(step.node)
        self.hands.fence(step.node)

    def _start(self, step: Step) -> None:
        self.hands.start(step.node)

    def _close(self, step: Step) -> None:
        """Make what begins from now on read-only, and end what had begun before."""
        conn = self._conn(step.node)
        conn.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        conn.execute("SELECT pg_reload_conf()")
        self._wait(step.node, _CLOSED, ("on",), "does not take up default_transaction_read_only")
        kept = [it.info.backend_pid for it in self._conns.values() if not it.closed]
        journal = self.journal_pid()
        kept += [] if journal is None else [journal]
        self._wait(step.node, _END_SESSIONS, (kept,), "has sessions that do not end")

    def _open(self, step: Step) -> None:
        conn = self._conn(step.node)
        conn.execute("ALTER SYSTEM RESET default_transaction_read_only")
        conn.execute("SELECT pg_reload_conf()")
        self._wait(step.node, _CLOSED, ("off",), "stays read-only by its own configuration")

    def _catch_up(self, step: Step) -> None:
        """Wait until a node has everything that the old primary wrote."""
        end = self.hands.ended(step.source)
        if end is not None:
            # It has the whole record of the shutdown checkpoint when it is past its beginning.
            wanted = {"received": end + 1, "replayed": 0}
        else:
            written: Any = self._conn(step.source).execute(_WRITTEN).fetchone()
            wanted = {"received": written[0], "replayed": written[0]}
        complaint = f"does not receive the last that {step.source} wrote"
        self._wait(step.node, _RECEIVED, wanted, complaint, seconds=self._pause_s)

    def _promote(self, step: Step) -> None:
        # Waiting inside pg_promote would look only every 100 ms.
        self._conn(step.node).execute("SELECT pg_promote(false)")
        self._wait(step.node, _IS_PRIMARY, None, "was told to promote, and is still in recovery")

    def _certify(self, step: Step) -> None:
        self._conn(step.node).execute(CERTIFY)

    def _resume(self, step: Step) -> None:
        self.lead_back(step.node)

    def _rewire(self, step: Step) -> None:
        node = step.node
        self._forget(node)
        shard = self.ask()
        head = shard.primary
        if head is None:
            raise FailoverUnfinished(f"shard {shard.name} has no primary that answers")
        if node in self.hands.ours:
            self.hands.rewire(node, head.node, dict(head.certified).get(head.timeline))
            return
        pair = self.record.node(node), self.record.node(head.node)
        if self._hook is None:
            self.remaining.append(instructions(*pair))
            return
        call_hook(self._hook, *pair)
        if not self._follows(node):
            raise FailoverUnfinished(f"--rewire ended, but {instructions(*pair)}")

    def _follows(self, node: str) -> bool:
        until = time.monotonic() + _WAIT_S
        while time.monotonic() < until:
            shard = self.ask()
            if shard.follows(shard.node(node)):
                return True
            time.sleep(_LOOK_S)
        return False

    def _lead(self, gate: Gate, node: str) -> None:
        try:
            place = self.record.node(node)
            gate.lead_to(place.host, place.port)
        finally:
            gate.resume()

    def _wait(
        self, node: str, statement: str, values: Any, complaint: str, *, seconds: float = _WAIT_S
    ) -> None:
        until = time.monotonic() + seconds
        conn = self._conn(node)
        while conn.execute(statement.encode(), values).fetchone() != (True,):
            if time.monotonic() > until:
                raise FailoverUnfinished(f"{node} {complaint} after {seconds:.0f} s")
            time.sleep(_LOOK_S)
