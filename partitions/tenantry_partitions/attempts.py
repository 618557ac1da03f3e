"""Ask for locks shortly, again and again, within a budget; count what that may have cost others."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from psycopg import errors, sql

from tenantry_partitions.sql import load
from tenantry_schema.errors import LockNotGranted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import psycopg

    from tenantry_partitions.budget import Budget
    from tenantry_schema.query import Statement

# What met one of these has changed nothing and may be tried again.
_AGAIN = (errors.LockNotAvailable, errors.DeadlockDetected)

_PENDING = """
SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass(%s)
"""
_DEADLOCK = "SELECT setting::int FROM pg_settings WHERE name = 'deadlock_timeout'"


class Attempts:
    """The attempts at the locks of one table, in one step after another.

    :param table: the table's oid
    :ivar count: how many the current step has made
    :ivar stall: the longest that one of them wanted or held a lock which may hold up users of the
        table, in seconds
    """

    def __init__(self, conn: psycopg.Connection[Any], table: int, budget: Budget) -> None:
        self._conn = conn
        self._table = table
        self._budget = budget
        self._waited = 0.0
        self.begin("", "")

    def begin(self, verb: str, name: str) -> None:
        """Count anew, for a step.

        :param name: of its partition, as SQL writes it
        """
        self._verb, self._name = verb, name
        self.count, self.stall = 0, 0.0

    def work(self) -> None:
        """Count what needs no lock that anybody waits for."""
        self.count += 1

    def forgive(self) -> None:
        """Forget the stall: those locks hold up no user of the table."""
        self.stall = 0.0

    def locked(self, statements: Sequence[Statement], before: Sequence[Statement] = ()) -> None:
        """Run statements in one transaction, again until their locks are granted.

        :param before: what needs no lock that anybody waits for
        """

        def once() -> None:
            began = None
            try:
                with self._conn.transaction():
                    if before:
                        self._conn.execute(sql.SQL(";\n").join(before), prepare=False)
                    began = time.monotonic()
                    self._conn.execute(sql.SQL(";\n").join(statements), prepare=False)
            finally:
                if began is not None:
                    self.stall = max(self.stall, time.monotonic() - began)

        self.until_granted(once)

    def beside(self, statement: Statement) -> None:
        """Run a statement that works beside readers and writers, and may take long."""

        def once() -> None:
            self._conn.execute(statement)

        self.until_granted(once)

    def until_granted(self, once: Callable[[], None]) -> None:
        """Do something again until its locks are granted.

        :raises LockNotGranted: when the budget is spent
        """
        for pause in self._budget.pauses():
            self.count += 1
            began = time.monotonic()
            try:
                once()
            except _AGAIN:
                self._waited += time.monotonic() - began
                self._pause_or_give_up(pause)
            else:
                return

    def with_longer_lock(self, do: Callable[[], None]) -> None:
        """Wait longer for other transactions than for locks that hold others up.

        Still less than deadlock_timeout: whoever waits for us meanwhile is never the victim.
        """
        row = self._conn.execute(_DEADLOCK).fetchone()
        assert row is not None
        longer = max(row[0] * 4 // 5, self._budget.milliseconds)
        set_timeout = "SELECT set_config('lock_timeout', %s, false)"
        self._conn.execute(set_timeout, (f"{longer}ms",))
        try:
            do()
        finally:
            if not self._conn.closed:
                self._conn.execute(set_timeout, (f"{self._budget.milliseconds}ms",))

    def await_holders(self) -> None:
        """Wait until no transaction keeps a lock on the table for longer than an attempt may wait.

        A concurrent detach hides the partition first and waits for them then: begun now, it could
        be left half done.
        """
        seen = self._holders()
        for pause in self._budget.pauses():
            if not seen:
                return
            self.count += 1
            self._pause_or_give_up(max(pause, self._budget.lock_timeout))
            seen &= self._holders()

    def is_pending(self) -> bool:
        """Say whether a concurrent detach of the partition was begun and not finished."""
        return self._conn.execute(_PENDING, (self._name,)).fetchone() == (True,)

    def _pause_or_give_up(self, pause: float) -> None:
        # Work is not counted, such as an archive of hours: only what is spent on locks.
        self._waited += pause
        if self._waited > self._budget.total:
            pids = ", ".join(str(pid) for pid, _ in sorted(self._holders()))
            holders = f" (locks on it are held by pid {pids})" if pids else ""
            left = (
                "its detach is begun, its rows are hidden, and the next run finishes it"
                if self.is_pending()
                else "nothing is half done, the next run tries again"
            )
            raise LockNotGranted(
                f"{self._name}: no lock to {self._verb} it in {self.count} attempts within "
                f"{self._budget.total:g} s{holders}: {left}"
            )
        time.sleep(pause)

    def _holders(self) -> set[tuple[int, str]]:
        child = self._conn.execute("SELECT to_regclass(%s)::oid", (self._name,)).fetchone()
        assert child is not None
        tables = [it for it in (self._table, child[0]) if it is not None]
        return set(self._conn.execute(load("holders"), {"tables": tables}))
