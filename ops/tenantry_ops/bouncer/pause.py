"""Hold the clients of some databases back while something is changed beneath them.

For planned switchovers, and for entries that lead elsewhere. The protocol:

1. A watchdog is started (:mod:`~.watchdog`): it resumes when this process dies, or at the lease's
   end.
2. The databases are paused on *all* poolers before the deadline, or on none.
3. The block runs: no transaction is open on the databases, and none begins. Here the old primary is
   fenced and the new one promoted, and :meth:`Paused.point` or :meth:`Paused.put` say what the
   files are to say.
4. When the block ends well, on each pooler: files in place, RELOAD, read back. RELOAD comes last,
   right before RESUME: new clients that come to a paused database after a RELOAD wait for 15 s.
5. When the block raises, nothing is put in place.
6. RESUME on all poolers, whatever happened.

::

    with paused(poolers, ["shard-1"], deadline=5, lease=60) as window:
        fence(old)
        promote(new)
        window.point("shard-1", host=new.host, port=new.port)

Clients wait meanwhile, and none gets an error as long as ``query_wait_timeout`` and the clients'
own deadlines are longer than the block. What fences the old primary is the caller's: a lease that
ends lets clients go on to wherever the entry leads.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tenantry_ops.bouncer.change import pointed
from tenantry_ops.bouncer.lying import read_ini, read_written
from tenantry_ops.bouncer.pausing import begin_pause, refuse_paused, resume_all
from tenantry_ops.bouncer.place import put_in_force
from tenantry_ops.bouncer.watchdog import Watchdog
from tenantry_schema.errors import BouncerError, InvalidConfig, PauseTimeout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tenantry_ops.bouncer.ini import Ini
    from tenantry_ops.bouncer.pooler import Pooler
    from tenantry_ops.bouncer.readback import Mismatch

#: The watchdog's lease is counted from before the pause; this much is for its start.
_MARGIN_S = 1.0


@dataclass(slots=True)
class Paused:
    """Databases at rest, until the block ends.

    :ivar waiting: what the changes that were put in force leave for a restart
    """

    poolers: Sequence[Pooler]
    databases: Sequence[str]
    until: float
    waiting: list[Mismatch] = field(default_factory=list)
    _pointed: dict[str, tuple[str, int]] = field(default_factory=dict)
    _put: list[tuple[Pooler, Mapping[str, bytes], Ini]] = field(default_factory=list)

    @property
    def remaining(self) -> float:
        """Seconds until the watchdog lets the clients go on; negative when it did."""
        return self.until - time.monotonic()

    def check(self) -> None:
        """Make sure that the databases are still at rest: to be called before what needs it.

        :raises PauseTimeout: when the lease has ended
        """
        if self.remaining <= 0:
            raise PauseTimeout(
                f"the pause of {', '.join(self.databases)} outlasted its lease: clients go on"
            )

    def point(self, database: str, *, host: str, port: int) -> None:
        """Let an entry lead to another server when the block ends.

        Where a pooler's files lie on another machine, they must say so by themselves by then.
        """
        self._pointed[database] = (host, port)

    def put(self, pooler: Pooler, files: Mapping[str, bytes], ini: Ini) -> None:
        """Put a pooler's files in force when the block ends.

        :param files: file name -> text, the configuration last
        """
        self._put.append((pooler, files, ini))

    def finish(self) -> None:
        """Do what was said, on every pooler; what failed on one is raised after the others."""
        failures: list[BouncerError | InvalidConfig] = []
        for pooler in self.poolers if self._pointed else ():
            try:
                self._point(pooler)
            except (BouncerError, InvalidConfig) as error:
                failures.append(error)
        for pooler, files, ini in self._put:
            try:
                self._force(pooler, files, ini)
            except (BouncerError, InvalidConfig) as error:
                failures.append(error)
        if failures:
            raise BouncerError("; ".join(map(str, failures))) from failures[0]

    def _point(self, pooler: Pooler) -> None:
        if pooler.directory is not None:
            self._force(
                pooler,
                *pointed(read_ini(pooler.directory), read_written(pooler.directory), self._pointed),
            )
            return
        with pooler.open() as console:
            console.reload()
            rows = {row["name"]: (row["host"], row["port"]) for row in console.show("DATABASES")}
        wrong = [name for name, target in self._pointed.items() if rows.get(name) != target]
        if wrong:
            raise BouncerError(
                f"after RELOAD the entries {', '.join(wrong)} at {console.where} do not lead to "
                "the new server: change its files there, and reload it"
            )

    def _force(self, pooler: Pooler, files: Mapping[str, bytes], ini: Ini) -> None:
        if pooler.directory is None:
            raise InvalidConfig("files are put in force on the machine where they lie")
        with pooler.open() as console:
            self.waiting += put_in_force(console, pooler.directory, files, ini)


@contextmanager
def paused(
    poolers: Sequence[Pooler],
    databases: Sequence[str],
    *,
    deadline: float = 5.0,
    lease: float = 60.0,
) -> Iterator[Paused]:
    """Run a block while databases are at rest on all poolers.

    :param deadline: seconds in which the last transaction must end
    :param lease: seconds, from then on, after which clients go on whatever the block does
    :raises PauseTimeout: when the databases did not come to rest, or the block took longer
    :raises OperationInProgress: when somebody else has paused one of them
    :raises BouncerError: when a console does not answer, or the changes could not be put in force
    """
    dog = _begin(poolers, databases, deadline, lease)
    try:
        window = Paused(poolers, databases, time.monotonic() + lease - _MARGIN_S)
        yield window
        window.finish()
        window.check()
    finally:
        _resume(dog, poolers, databases)


def pause_for(
    poolers: Sequence[Pooler], databases: Sequence[str], *, deadline: float, lease: float
) -> None:
    """Pause databases and return; they are resumed by somebody else, or at the end of the lease.

    :raises PauseTimeout: when the databases did not come to rest
    :raises BouncerError: when a console does not answer
    """
    dog = _begin(poolers, databases, deadline, lease)
    try:
        dog.hold()
    except BaseException:
        _resume(dog, poolers, databases)
        raise


def _begin(
    poolers: Sequence[Pooler], databases: Sequence[str], deadline: float, lease: float
) -> Watchdog:
    refuse_paused(poolers, databases)
    dog = Watchdog.start([it.console for it in poolers], databases, deadline + lease)
    try:
        begin_pause(poolers, databases, deadline)
    except BaseException:
        _resume(dog, poolers, databases)
        raise
    return dog


def _resume(dog: Watchdog, poolers: Sequence[Pooler], databases: Sequence[str]) -> None:
    try:
        resume_all(poolers, databases)
    except BaseException:
        # The watchdog finds its input closed, and tries for longer.
        dog.abandon()
        raise
    dog.dismiss()
