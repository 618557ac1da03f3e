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
from tenantry_partitions.attempts import Attempts
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
from tenantry_schema.errors import RolloverFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import LiteralString

    import psycopg

    from tenantry_partitions.archive.archiver import Archiver
    from tenantry_partitions.budget import Budget
    from tenantry_partitions.coverage import Range
    from tenantry_partitions.inspect import Inspected


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
        self._parent = sql.Identifier(table.state.schema, table.state.table)
        self._attempts = Attempts(conn, table.oid, budget)

    def run(self, step: Step) -> Outcome:
        """Do one step.

        :raises LockNotGranted: when the budget is spent
        :raises RolloverFailed: when the server refuses it, naming the reason
        :raises psycopg.OperationalError: when the connection is lost
        """
        began = time.monotonic()
        self._attempts.begin(step.verb, self._name(step))
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
        seconds = time.monotonic() - began
        return Outcome(step, self._attempts.count, seconds, self._attempts.stall * 1000)

    def _do(self, step: Step) -> None:
        match step:
            case Create():
                self._create(step)
            case Detach():
                self._detach(step)
            case Finalize():
                self._attempts.with_longer_lock(lambda: self._finalize(self._child(step)))
            case Drop():
                self._drop(step)
            case Guard():
                self._guard(step)
            case Unguard():
                names = [constraint_name(it, (step.start, step.end)) for it in (GUARD, PROMOTION)]
                self._attempts.locked([make.drop_checks(self._child(step), names)])
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
        self._attempts.locked([attach], before=before)

    def _detach(self, step: Detach) -> None:
        child, state = self._child(step), self._table.state
        marker = Marker(state.table, step.start, step.end, step.then)
        mark = make.comment(child, marker.text())
        if not step.concurrently:
            self._attempts.locked([mark, make.detach(self._parent, child)])
            return
        self._attempts.await_holders()
        self._attempts.locked([mark])
        self._attempts.forgive()
        self._attempts.with_longer_lock(lambda: self._detach_concurrently(child))

    def _detach_concurrently(self, child: sql.Identifier) -> None:
        def once() -> None:
            how = "FINALIZE" if self._attempts.is_pending() else "CONCURRENTLY"
            self._conn.execute(make.detach(self._parent, child, how))

        self._attempts.until_granted(once)

    def _finalize(self, child: sql.Identifier) -> None:
        self._attempts.beside(make.detach(self._parent, child, "FINALIZE"))

    def _archive(self, step: Archive) -> None:
        if self._archiver is None:
            raise RolloverFailed(f"{self._name(step)}: there is no store to archive it to")
        child, table = self._child(step), self._table.state.table
        self._attempts.work()
        path = self._archiver.archive(self._conn, self._table, step, child)
        marker = Marker(table, step.start, step.end, AtEnd.ARCHIVE, path)
        self._attempts.locked([make.comment(child, marker.text())])
        self._attempts.forgive()

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

        self._attempts.until_granted(once)

    def _require_manifest(self, step: Drop) -> None:
        """Let a partition be archived anew whose manifest a store has lost."""
        marker = Marker.read(self._comment(step))
        if self._archiver is None or marker is None or marker.archive is None:
            return
        if not self._archiver.has(marker.archive):
            forgotten = replace(marker, archive=None)
            self._attempts.locked([make.comment(self._child(step), forgotten.text())])
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
        self._attempts.begin("restore", self._name(step))

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
            self._attempts.until_granted(once)

    def _set_role(self, how: LiteralString) -> sql.Composed:
        return sql.SQL(how).format(sql.Identifier(self._table.owner))

    def _guard(self, step: Guard) -> None:
        child, span = self._child(step), (step.start, step.end)
        name = constraint_name(GUARD, span)
        condition = make.keep_out(self._table.policy.control, span, self._table.encoding)
        # Added anew where it is there unproved: both statements take no scan.
        self._attempts.locked(
            [make.drop_checks(child, [name]), make.add_check(child, name, condition)]
        )
        self._attempts.beside(make.validate_check(child, name))

    def _promote(self, step: Promote) -> None:
        span, place = (step.start, step.end), self._place(step)
        old, new = sql.Identifier(place, step.default), sql.Identifier(place, step.partition)
        name = constraint_name(PROMOTION, span)
        condition = make.keep_in(self._table.policy.control, span, self._table.encoding)
        self._attempts.locked([make.drop_checks(old, [name]), make.add_check(old, name, condition)])
        self._attempts.beside(make.validate_check(old, name))
        self._attempts.locked(
            [
                make.detach(self._parent, old),
                make.rename(old, step.partition),
                # Proved by the CHECK: no row is read.
                make.attach(self._parent, new, span, self._table.encoding),
                make.drop_checks(new, [name]),
                *make.create_like(self._parent, old, self._security()),
                make.attach_default(self._parent, old),
            ]
        )

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
