"""Do the steps of a plan, each in transactions of its own, under a budget of locks.

Killed anywhere, what is there is described by its bounds, by a pending detach, by a CHECK's name or
by the comment of a partition that is on its way out: the next plan goes on from it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from psycopg import errors, sql

from tenantry_partitions import statements as make
from tenantry_partitions.guards import GUARD, PROMOTION, constraint_name
from tenantry_partitions.marker import Marker
from tenantry_partitions.policy import AtEnd
from tenantry_partitions.sql import load
from tenantry_partitions.steps import (
    Archive,
    Create,
    Detach,
    Drop,
    Finalize,
    Guard,
    Promote,
    Step,
    Unguard,
)
from tenantry_schema.errors import LockNotGranted, RolloverFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import LiteralString

    import psycopg

    from tenantry_partitions.archive.archiver import Archiver
    from tenantry_partitions.budget import Budget
    from tenantry_partitions.coverage import Range
    from tenantry_partitions.inspect import Inspected
    from tenantry_schema.query import Statement

# A step that met one of these has changed nothing and may be tried again.
_AGAIN = (errors.LockNotAvailable, errors.DeadlockDetected)

_PENDING = """
SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass(%s)
"""
_DEADLOCK = "SELECT setting::int FROM pg_settings WHERE name = 'deadlock_timeout'"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a step.

    :ivar attempts: how often its lock was tried for
    :ivar seconds: how long it took in all
    :ivar stall_ms: the longest that it wanted or held a lock which may hold up users of the table
    """

    step: Step
    attempts: int
    seconds: float
    stall_ms: float

    def as_row(self) -> dict[str, Any]:
        """Return the outcome for people and programs."""
        return {
            "step": self.step.verb,
            "partition": self.step.partition,
            "attempts": self.attempts,
            "seconds": round(self.seconds, 3),
            "stall_ms": round(self.stall_ms, 1),
            "reason": self.step.reason,
        }


class Executor:
    """Does steps on one table.

    :param conn: a session of :func:`~tenantry_partitions.session.maintenance`
    :param table: the table as it was inspected
    :param archiver: what archives partitions, where the policies ask for it
    """

    def __init__(
        self,
        conn: psycopg.Connection[Any],
        table: Inspected,
        budget: Budget,
        archiver: Archiver | None = None,
    ) -> None:
        self._conn = conn
        self._archiver = archiver
        self._table = table
        self._budget = budget
        self._waited = 0.0
        self._parent = sql.Identifier(table.state.schema, table.state.table)
        self._attempts = 0
        self._stall = 0.0

    def run(self, step: Step) -> Outcome:
        """Do one step.

        :raises LockNotGranted: when the budget is spent
        :raises RolloverFailed: when the server refuses it, naming the reason
        :raises psycopg.OperationalError: when the connection is lost
        """
        began = time.monotonic()
        self._attempts, self._stall = 0, 0.0
        try:
            if not isinstance(step, Archive | Drop):
                # What is made belongs to the table's owner. Rows are read as whoever connected:
                # an owner is held back by the row security that it forces.
                self._conn.execute(self._set_role("SET ROLE {}"))
            self._do(step)
        except errors.Error as error:
            if self._conn.closed:
                # Not this table's fault, and the end of every other one's turn.
                raise
            raise RolloverFailed(
                f"{self._name(step)}: {step.verb} failed ({str(error).splitlines()[0]}, SQLSTATE "
                f"{error.sqlstate}): mend the reason and run it again"
            ) from error
        finally:
            if not self._conn.closed:
                self._conn.execute("RESET ROLE")
        return Outcome(step, self._attempts, time.monotonic() - began, self._stall * 1000)

    def _do(self, step: Step) -> None:
        match step:
            case Create():
                self._create(step)
            case Detach():
                self._detach(step)
            case Finalize():
                self._finalize(step)
            case Drop():
                self._drop(step)
            case Guard():
                self._guard(step)
            case Unguard():
                names = [constraint_name(it, (step.start, step.end)) for it in (GUARD, PROMOTION)]
                self._locked([make.drop_checks(self._child(step), names)], step)
            case Promote():
                self._promote(step)
            case Archive():
                self._archive(step)
            case _:
                raise NotImplementedError(step.verb)

    def _create(self, step: Create) -> None:
        child = self._child(step)
        span = (step.start, step.end)
        attach = make.attach(self._parent, child, span, self._table.encoding)
        before = make.create_like(self._parent, child, self._security())
        self._locked([attach], step, before=before)

    def _detach(self, step: Detach) -> None:
        child, state = self._child(step), self._table.state
        marker = Marker(state.table, step.start, step.end, step.then)
        mark = make.comment(child, marker.text())
        if not step.concurrently:
            self._locked([mark, make.detach(self._parent, child)], step)
            return
        self._await_holders(step)
        self._locked([mark], step)
        self._stall = 0.0
        self._with_longer_lock(lambda: self._detach_concurrently(step))

    def _detach_concurrently(self, step: Step) -> None:
        statement = make.detach(self._parent, self._child(step), "CONCURRENTLY")

        def once() -> None:
            if self._is_pending(step):
                self._once_finalize(step)()
            else:
                self._conn.execute(statement)

        self._retried(once, step)

    def _finalize(self, step: Step) -> None:
        self._with_longer_lock(lambda: self._retried(self._once_finalize(step), step))

    def _once_finalize(self, step: Step) -> Callable[[], None]:
        statement = make.detach(self._parent, self._child(step), "FINALIZE")
        return lambda: void(self._conn.execute(statement))

    def _archive(self, step: Archive) -> None:
        if self._archiver is None:
            raise RolloverFailed(f"{self._name(step)}: there is no store to archive it to")
        child, table = self._child(step), self._table.state.table
        self._attempts += 1
        path = self._archiver.archive(self._conn, self._table, step, child)
        marker = Marker(table, step.start, step.end, AtEnd.ARCHIVE, path)
        self._locked([make.comment(child, marker.text())], step)
        self._stall = 0.0

    def _drop(self, step: Drop) -> None:
        child = self._child(step)
        if step.then is AtEnd.ARCHIVE:
            self._require_manifest(step)

        def once() -> None:
            with self._conn.transaction():
                self._conn.execute(make.lock(child))
                marker = Marker.read(self._comment(step))
                if marker is None or marker.then is not step.then:
                    raise RolloverFailed(
                        f"{self._name(step)}: it does not say that it was detached to be dropped"
                    )
                if step.then is AtEnd.ARCHIVE:
                    self._check_archive(marker, child)
                self._conn.execute(make.drop(child))

        self._retried(once, step)

    def _require_manifest(self, step: Drop) -> None:
        """Let a partition be archived anew whose manifest a store has lost."""
        marker = Marker.read(self._comment(step))
        if self._archiver is None or marker is None or marker.archive is None:
            return
        if not self._archiver.has(marker.archive):
            forgotten = replace(marker, archive=None)
            self._locked([make.comment(self._child(step), forgotten.text())], step)
            raise RolloverFailed(
                f"{self._name(step)}: its manifest {marker.archive} is gone: nothing is dropped, "
                "the next run archives it anew"
            )

    def _check_archive(self, marker: Marker, child: sql.Identifier) -> None:
        if self._archiver is None or marker.archive is None:
            raise RolloverFailed(f"{child.as_string(None)}: it was not archived: it is not dropped")
        self._archiver.check(self._conn, marker.archive, child)

    def _comment(self, step: Step) -> str | None:
        query = "SELECT obj_description(to_regclass(%s), 'pg_class')"
        row = self._conn.execute(query, (self._name(step),)).fetchone()
        return None if row is None else row[0]

    def attach_filled(
        self, name: str, span: Range, marker: Marker, fill: Callable[[psycopg.Cursor[Any]], None]
    ) -> None:
        """Make a partition with rows, in one transaction.

        :param fill: writes the rows, into the table that was made
        :raises LockNotGranted: when the budget is spent
        """
        step = Create(name, *span, "restored from its archive")
        child = self._child(step)
        attach = make.attach(self._parent, child, span, self._table.encoding)

        def once() -> None:
            with self._conn.transaction():
                self._conn.execute(attach)

        with self._conn.transaction(), self._conn.cursor() as cursor:
            cursor.execute(self._set_role("SET LOCAL ROLE {}"))
            made = make.create_like(self._parent, child, self._security())
            cursor.execute(sql.SQL(";\n").join(made), prepare=False)
            cursor.execute("SET LOCAL ROLE NONE")
            fill(cursor)
            cursor.execute(self._set_role("SET LOCAL ROLE {}"))
            cursor.execute(make.comment(child, marker.text()))
            self._retried(once, step)

    def _set_role(self, how: LiteralString) -> sql.Composed:
        return sql.SQL(how).format(sql.Identifier(self._table.owner))

    def _guard(self, step: Guard) -> None:
        child, span = self._child(step), (step.start, step.end)
        name = constraint_name(GUARD, span)
        condition = make.keep_out(self._table.policy.control, span, self._table.encoding)
        # Added anew where it is there unproved: both statements take no scan.
        self._locked(
            [make.drop_checks(child, [name]), make.add_check(child, name, condition)], step
        )
        self._beside(make.validate_check(child, name), step)

    def _promote(self, step: Promote) -> None:
        span, place = (step.start, step.end), self._place(step)
        old, new = sql.Identifier(place, step.default), sql.Identifier(place, step.partition)
        name = constraint_name(PROMOTION, span)
        condition = make.keep_in(self._table.policy.control, span, self._table.encoding)
        self._locked([make.drop_checks(old, [name]), make.add_check(old, name, condition)], step)
        self._beside(make.validate_check(old, name), step)
        self._locked(
            [
                make.detach(self._parent, old),
                make.rename(old, step.partition),
                # Proved by the CHECK: no row is read.
                make.attach(self._parent, new, span, self._table.encoding),
                make.drop_checks(new, [name]),
                *make.create_like(self._parent, old, self._security()),
                make.attach_default(self._parent, old),
            ],
            step,
        )

    def _locked(
        self, statements: Sequence[Statement], step: Step, before: Sequence[Statement] = ()
    ) -> None:
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
                    self._stall = max(self._stall, time.monotonic() - began)

        self._retried(once, step)

    def _beside(self, statement: Statement, step: Step) -> None:
        """Run a statement that works beside readers and writers, and may take long."""
        self._retried(lambda: void(self._conn.execute(statement)), step)

    def _retried(self, once: Callable[[], None], step: Step) -> None:
        for pause in self._budget.pauses():
            self._attempts += 1
            began = time.monotonic()
            try:
                once()
            except _AGAIN:
                self._waited += time.monotonic() - began
                self._pause_or_give_up(step, pause)
            else:
                return

    def _pause_or_give_up(self, step: Step, pause: float) -> None:
        # Work is not counted, such as an archive of hours: only what is spent on locks.
        self._waited += pause
        if self._waited > self._budget.total:
            pids = ", ".join(str(pid) for pid, _ in sorted(self._holders(step)))
            holders = f" (locks on it are held by pid {pids})" if pids else ""
            pending = self._is_pending(step)
            raise LockNotGranted(
                f"{self._name(step)}: no lock to {step.verb} it in {self._attempts} attempts "
                f"within {self._budget.total:g} s{holders}: "
                + (
                    "its detach is begun, its rows are hidden, and the next run finishes it"
                    if pending
                    else "nothing is half done, the next run tries again"
                )
            )
        time.sleep(pause)

    def _await_holders(self, step: Step) -> None:
        """Wait until no transaction keeps a lock on the table for longer than an attempt may wait.

        A concurrent detach hides the partition first and waits for them then: begun now, it could
        be left half done.
        """
        seen = self._holders(step)
        for pause in self._budget.pauses():
            if not seen:
                return
            self._attempts += 1
            self._pause_or_give_up(step, max(pause, self._budget.lock_timeout))
            seen &= self._holders(step)

    def _holders(self, step: Step) -> set[tuple[int, str]]:
        child = self._conn.execute("SELECT to_regclass(%s)::oid", (self._name(step),)).fetchone()
        assert child is not None
        tables = [it for it in (self._table.oid, child[0]) if it is not None]
        return set(self._conn.execute(load("holders"), {"tables": tables}))

    def _with_longer_lock(self, do: Callable[[], None]) -> None:
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

    def _is_pending(self, step: Step) -> bool:
        return self._conn.execute(_PENDING, (self._name(step),)).fetchone() == (True,)

    def _security(self) -> make.RowSecurity:
        rows = self._conn.execute(load("row_security"), {"table": self._table.oid}).fetchall()
        policies = tuple(
            (*row[2:5], tuple(row[5]), *row[6:8]) for row in rows if row[2] is not None
        )
        return make.RowSecurity(rows[0][0], rows[0][1], policies)

    def _child(self, step: Step) -> sql.Identifier:
        return sql.Identifier(self._place(step), step.partition)

    def _place(self, step: Step) -> str:
        known = step.default if isinstance(step, Promote) else step.partition
        return self._table.schemas.get(known, self._table.state.schema)

    def _name(self, step: Step) -> str:
        return self._child(step).as_string(None)


def void(_result: object) -> None:
    """Forget a result."""
