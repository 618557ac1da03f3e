"""Every error that tenantry raises, in one tree.

They live in the lowest package so that all packages may raise them; services import them from
``tenantry`` or ``tenantry.errors``.

::

    TenantryError
    ├── InvalidInput (ValueError)     the caller's value is refused before anything happened
    │   ├── InvalidKey                a tenant key or an agent id of the wrong type or form
    │   ├── InvalidSchema             a MetaData that cannot be laid out in buckets
    │   ├── InvalidConfig             a setting, an option, a connection string
    │   ├── InvalidToken              text that is no token, or a token of another fleet
    │   ├── UnsuitableTable           a table that cannot be kept in time partitions
    │   ├── InvalidGraph              a cycle, named; an edge to a task that is not there
    │   ├── InvalidSchedule           a cron expression, an interval, a time zone
    │   └── UnsupportedRead           what is no read policy
    ├── NotFound (LookupError)
    │   ├── UnknownTenant
    │   ├── UnknownAgent
    │   ├── UnknownActor
    │   ├── UnknownTask
    │   ├── UnknownSchedule
    │   ├── UnknownBucket             the map has no bucket for a hash, or no such number
    │   ├── UnknownShard              the map names a shard that it does not describe
    │   └── UnknownNode               a shard has no node of that name
    ├── Conflict
    │   ├── AmbiguousPin              the 32 hash bits are taken by another pinned tenant
    │   ├── AlreadyExists             init of a fleet that exists, a tenant that exists
    │   ├── MapChanged                compare-and-swap lost: the map has a newer version
    │   ├── VersionChanged            compare-and-swap lost: a row has a newer version
    │   ├── StaleActor                a newer incarnation of the actor was activated
    │   ├── LeaseLost                 the claim is gone: somebody else owns the task, or nobody
    │   ├── KeysConflict              some idempotency keys of a graph are taken, others are not
    │   ├── OperationInProgress       another process does the same operation
    │   └── FailoverRefused           a change of primary could lose commits, or cannot work
    ├── Unavailable (ConnectionError)
    │   ├── CatalogUnavailable        no map can be read and none is held
    │   ├── ShardUnavailable          no connection to the shard's primary
    │   ├── SplitBrain                two nodes of a shard take writes: none is guessed
    │   ├── TooStale                  no replica is as fresh as was declared, in time
    │   ├── PoolExhausted             every connection is in use for longer than the caller waits
    │   └── RouterClosed
    ├── BucketMoved                   retryable: the bucket has a new home; open a new session
    ├── ReadInterrupted               retryable: a replica ended a read; read again
    ├── TokenLost                     a failover lost what the token stood for
    ├── DeadlineExceeded (TimeoutError)   ended by its deadline before COMMIT was sent
    ├── AlreadyDone                   the operation's key was committed before: nothing was repeated
    ├── OutcomeUnknown                COMMIT was sent, no clean acknowledgement came back
    ├── PartialResult                 a scatter that some shards did not answer
    ├── MigrationFailed               a shard could not be migrated; running again resumes
    ├── FailoverUnfinished            a change of primary stopped midway; running again resumes
    ├── RolloverFailed                a table's partitions could not be rolled over; run it again
    ├── LockNotGranted (TimeoutError) a lock was not got within the budget: nothing is half done
    ├── ArchiveMismatch               what was read back is not what was written: nothing is dropped
    ├── FleetError                    the embedded fleet: no server programs, a server that died
    └── BouncerError                  PgBouncer does not answer, refuses, or runs otherwise
        └── PauseTimeout (TimeoutError)   a pause did not begin in time, or outlasted its lease

Each message names the object, the value, the reason, and what to do next; no message ever
contains a password.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID


class TenantryError(Exception):
    """The root: catch this to catch everything that tenantry raises."""

    __module__ = "tenantry"


class InvalidInput(TenantryError, ValueError):
    """The caller's value is refused before anything happened."""

    __module__ = "tenantry"


class InvalidKey(InvalidInput):
    """A tenant key or an agent id has the wrong type or form."""

    __module__ = "tenantry"


class InvalidSchema(InvalidInput):
    """A MetaData cannot be laid out in buckets."""

    __module__ = "tenantry.errors"


class InvalidConfig(InvalidInput):
    """A setting, an option or a connection string cannot be used."""

    __module__ = "tenantry.errors"


class InvalidToken(InvalidInput):
    """Text is no token, or a token is of another fleet or of a place not yet written."""

    __module__ = "tenantry"


class InvalidGraph(InvalidInput):
    """A task graph has a cycle, a doubled task, or an edge to a task that is not in it."""

    __module__ = "tenantry"


class UnsuitableTable(InvalidInput):
    """A table cannot be kept in time partitions as it is."""

    __module__ = "tenantry.errors"


class InvalidSchedule(InvalidInput):
    """A schedule's cron expression, interval or time zone cannot be used."""

    __module__ = "tenantry"


class UnsupportedRead(InvalidInput):
    """What was given as ``read=`` is no read policy."""

    __module__ = "tenantry"


class NotFound(TenantryError, LookupError):
    """The named object does not exist."""

    __module__ = "tenantry.errors"


class UnknownTenant(NotFound):
    """No such tenant lives in the bucket that its key leads to."""

    __module__ = "tenantry"


class UnknownAgent(NotFound):
    """No such agent is known, neither by its id's own bits nor by the directory."""

    __module__ = "tenantry"


class UnknownBucket(NotFound):
    """The map has no bucket for a hash, or no bucket of that number."""

    __module__ = "tenantry.errors"


class UnknownShard(NotFound):
    """The map places a bucket on a shard that it does not describe."""

    __module__ = "tenantry.errors"


class UnknownNode(NotFound):
    """The shard has no node of that name."""

    __module__ = "tenantry.errors"


class UnknownActor(NotFound):
    """The tenant has no such actor."""

    __module__ = "tenantry"


class UnknownTask(NotFound):
    """The tenant has no such task."""

    __module__ = "tenantry"


class UnknownSchedule(NotFound):
    """The tenant has no such schedule."""

    __module__ = "tenantry"


class Conflict(TenantryError):
    """What was asked for contradicts what is already there."""

    __module__ = "tenantry.errors"


class AmbiguousPin(Conflict):
    """The 32 bits of the tenant's hash are taken by another pinned tenant."""

    __module__ = "tenantry.errors"


class AlreadyExists(Conflict):
    """The object to be created exists."""

    __module__ = "tenantry.errors"


class MapChanged(Conflict):
    """The catalog's map has another version than the one the change was planned on."""

    __module__ = "tenantry.errors"


class VersionChanged(Conflict):
    """The row has another version than the one the change was made on: read it again."""

    __module__ = "tenantry"


class StaleActor(Conflict):
    """A newer incarnation of the actor was activated: this one must stop."""

    __module__ = "tenantry"


class LeaseLost(Conflict):
    """The claim is gone: somebody else owns the task, it has ended, or it was cancelled.

    :ivar task: the id of the task
    """

    __module__ = "tenantry"

    def __init__(self, message: str, *, task: UUID | None = None) -> None:
        super().__init__(message)
        self.task = task


class KeysConflict(Conflict):
    """Some of a graph's idempotency keys are taken and others are not: it is not a repetition."""

    __module__ = "tenantry"


class OperationInProgress(Conflict):
    """Another process runs the same operation on the same object."""

    __module__ = "tenantry.errors"


class FailoverRefused(Conflict):
    """A change of primary could lose commits, or cannot work: nothing was changed."""

    __module__ = "tenantry.errors"


class Unavailable(TenantryError, ConnectionError):
    """A server that is needed does not answer."""

    __module__ = "tenantry.errors"


class CatalogUnavailable(Unavailable):
    """The catalog does not answer and no map is held."""

    __module__ = "tenantry"


class ShardUnavailable(Unavailable):
    """A shard's primary does not answer."""

    __module__ = "tenantry"


class SplitBrain(Unavailable):
    """Two nodes of a shard take writes: nothing is written until an operator has ended one."""

    __module__ = "tenantry"


class TooStale(Unavailable):
    """No replica could promise the freshness that was declared, and the primary was not allowed."""

    __module__ = "tenantry"


class PoolExhausted(Unavailable):
    """Every connection of a node's pool stayed in use for as long as the caller would wait."""

    __module__ = "tenantry"


class RouterClosed(Unavailable):
    """The router is closed, or was never opened."""

    __module__ = "tenantry"


class BucketMoved(TenantryError):
    """The bucket has a new home: nothing was committed, open a new session."""

    __module__ = "tenantry"


class ReadInterrupted(TenantryError):
    """A replica ended a read in its middle (a recovery conflict, a restart): read again."""

    __module__ = "tenantry"


class TokenLost(TenantryError):
    """A failover lost what the token stood for, or nobody can say that it did not."""

    __module__ = "tenantry"


class DeadlineExceeded(TenantryError, TimeoutError):
    """The call was ended by its deadline before COMMIT was sent: nothing was committed."""

    __module__ = "tenantry"


class AlreadyDone(TenantryError):
    """The operation's key was committed before, by this caller or another: nothing was repeated."""

    __module__ = "tenantry"


class OutcomeUnknown(TenantryError):
    """COMMIT was sent and no clean acknowledgement came back: it may or may not have happened.

    What is needed to find out is carried along; ``router.outcome(error)`` uses it.

    :ivar xid: the transaction id as a decimal string, if the server had told it
    :ivar node: the node that was asked to commit, as ``host:port/database``
    :ivar system: the system identifier of its cluster
    :ivar timeline: the timeline on which it wrote
    :ivar backend: the server's process and its start, or None behind a pooler
    :ivar shard: the number of its shard
    :ivar tenant: the text of the tenant's key, if it was known
    :ivar operation: the operation's key, if the caller gave one
    """

    __module__ = "tenantry"

    def __init__(  # noqa: PLR0913  what it takes to find out
        self,
        message: str,
        *,
        xid: str | None = None,
        node: str | None = None,
        system: int = 0,
        timeline: int = 0,
        backend: tuple[int, str] | None = None,
        shard: int | None = None,
        tenant: str | None = None,
        operation: str | None = None,
    ) -> None:
        super().__init__(message)
        self.xid = xid
        self.node = node
        self.system = system
        self.timeline = timeline
        self.backend = backend
        self.shard = shard
        self.tenant = tenant
        self.operation = operation


class PartialResult(TenantryError):
    """Some shards did not answer a scatter in time and the caller did not accept that."""

    __module__ = "tenantry"


class MigrationFailed(TenantryError):
    """A shard could not be migrated; running the command again resumes."""

    __module__ = "tenantry.errors"


class FailoverUnfinished(TenantryError):
    """A change of primary stopped midway; running the command again resumes."""

    __module__ = "tenantry.errors"


class RolloverFailed(TenantryError):
    """A table's time partitions could not be rolled over; running the command again resumes."""

    __module__ = "tenantry.errors"


class LockNotGranted(TenantryError, TimeoutError):
    """A lock was not got within the budget: nothing is half done."""

    __module__ = "tenantry.errors"


class ArchiveMismatch(TenantryError):
    """What was read back from an archive is not what was written: nothing is dropped."""

    __module__ = "tenantry.errors"


class FleetError(TenantryError):
    """The embedded fleet could not be started, found or stopped."""

    __module__ = "tenantry.errors"


class BouncerError(TenantryError):
    """PgBouncer does not answer, refuses a command, or does not run as its file says."""

    __module__ = "tenantry.errors"


class PauseTimeout(BouncerError, TimeoutError):
    """A pause did not begin before its deadline, or was held for longer than its lease."""

    __module__ = "tenantry.errors"
