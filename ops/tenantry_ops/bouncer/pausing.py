"""PAUSE with a deadline that PgBouncer does not have, and RESUME for whatever was paused.

PAUSE answers when the last transaction has ended, which may be never; a PAUSE that is resumed from
elsewhere meanwhile never answers at all, and one whose connection ends leaves its database paused.
So each has a connection of its own, which is closed only after the database was resumed.
"""

from __future__ import annotations

import select
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import ExecStatus

from tenantry_ops.bouncer.console import Console, command
from tenantry_schema.errors import BouncerError, OperationInProgress, PauseTimeout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tenantry_ops.bouncer.pooler import Pooler

_BUSY = ("sv_active", "sv_active_cancel", "sv_being_canceled")


def refuse_paused(poolers: Sequence[Pooler], databases: Sequence[str]) -> None:
    """Make sure that nobody else has paused any of the databases: that pause is not ours to end.

    :raises OperationInProgress: when somebody has
    :raises BouncerError: when a console does not answer
    """
    for pooler in poolers:
        with pooler.open() as console:
            already = sorted(set(console.paused()) & set(databases))
            if already:
                raise OperationInProgress(
                    f"{', '.join(already)} at {console.where} is paused by somebody else: wait, or "
                    "run `tenantry bouncer resume` if nobody needs that any more"
                )


def begin_pause(poolers: Sequence[Pooler], databases: Sequence[str], deadline: float) -> None:
    """Pause databases of all poolers, or none.

    :param deadline: seconds until the last transaction must have ended
    :raises PauseTimeout: when one had not; everything is resumed then
    :raises BouncerError: when a console does not answer, or has no such database; likewise
    """
    until = time.monotonic() + deadline
    try:
        with ExitStack() as stack:
            # The connections stay open until everything is resumed, or paused.
            pending = {
                (console.where, database): console
                for pooler in poolers
                for database in databases
                for console in [stack.enter_context(pooler.open())]
            }
            for (_, database), console in pending.items():
                _send(console.conn, command("PAUSE", database))
            try:
                _await(pending, until, deadline)
                _check(poolers, databases)
            except BaseException:
                resume_all(poolers, databases)
                raise
    except psycopg.Error as error:
        raise BouncerError(f"a pause was cut off ({error}): everything was resumed") from error


def resume_all(
    poolers: Sequence[Pooler], databases: Sequence[str] | None = None
) -> list[tuple[str, str]]:
    """Resume databases on every pooler; return (pooler, database) of those that were paused.

    :param databases: None for whatever is paused
    :raises BouncerError: naming the poolers where that could not be done, after the others
    """
    resumed: list[tuple[str, str]] = []
    failures: list[str] = []
    for pooler in poolers:
        try:
            with pooler.open() as console:
                names = console.paused() if databases is None else databases
                resumed += [(console.where, it) for it in names if console.resume(it)]
        except BouncerError as error:
            failures.append(str(error))
    if failures:
        raise BouncerError(
            f"not everything could be resumed ({'; '.join(failures)}): run `tenantry bouncer "
            "resume` once PgBouncer answers"
        )
    return resumed


def _send(conn: psycopg.Connection[Any], statement: str) -> None:
    conn.pgconn.send_query(statement.encode())
    while conn.pgconn.flush():
        select.select([], [conn.fileno()], [], None)


def _await(pending: dict[tuple[str, str], Console], until: float, deadline: float) -> None:
    left = {console.conn.fileno(): (name, console) for name, console in pending.items()}
    while left:
        ready, _, _ = select.select(list(left), [], [], max(0.0, until - time.monotonic()))
        if not ready:
            names = ", ".join(
                sorted({f"{name!r} at {where}" for (where, name), _ in left.values()})
            )
            raise PauseTimeout(
                f"{names} did not come to rest within {deadline:g} s, because transactions went "
                "on: everything was resumed; end long transactions, or allow more time"
            )
        for handle in ready:
            (where, name), console = left[handle]
            if _answered(console.conn, name, where):
                del left[handle]


def _answered(conn: psycopg.Connection[Any], name: str, where: str) -> bool:
    conn.pgconn.consume_input()
    while not conn.pgconn.is_busy():
        result = conn.pgconn.get_result()
        if result is None:
            return True
        if result.status == ExecStatus.FATAL_ERROR:
            raise BouncerError(f"{where} refused to pause {name!r}: {result.get_error_message()}")
    return False


def _check(poolers: Sequence[Pooler], databases: Sequence[str]) -> None:
    for pooler in poolers:
        with pooler.open() as console:
            missing = set(databases) - set(console.paused())
            busy = {
                row["database"]
                for row in console.show("POOLS")
                if row["database"] in databases and any(row.get(it) for it in _BUSY)
            }
            if missing or busy:
                raise BouncerError(
                    f"{console.where} says that {', '.join(sorted(missing | busy))} is not at rest "
                    "after all: somebody else resumed it; everything was resumed"
                )
