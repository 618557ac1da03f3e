"""Actors: registration, versioned state, and incarnations that fence each other.

An actor's mailbox is not stored: messages are ephemeral (docs/why/tasks.md). What is stored is what
must be true after a crash: who the actor is, the state that it last committed, the tasks that it
holds. :func:`activate` raises the generation: from its commit on, no older incarnation can save
state, claim, renew, or finish, because Postgres compares the numbers that they carry.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tenantry_schema.errors import AlreadyExists, StaleActor, UnknownActor, VersionChanged
from tenantry_schema.query import Query
from tenantry_schema.sql import load
from tenantry_schema.store import checks
from tenantry_schema.store.ids import new_id
from tenantry_schema.store.rows import Claim, Unfinished

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from uuid import UUID

    from tenantry_schema.query import Row, Work, WorkFactory

#: How many unfinished tasks a recovery lists.
UNFINISHED_LISTED = 1000

_COLUMNS = (
    "tenant_id, id, agent_id, kind, state, version, generation, created_at, updated_at, "
    "activated_at"
)
_REGISTER = f"""
INSERT INTO actors (tenant_id, id, agent_id, kind, state)
VALUES (%(tenant)s, %(actor)s, %(agent)s, %(kind)s, %(state)s::jsonb)
ON CONFLICT DO NOTHING
RETURNING {_COLUMNS}
"""
_GET = f"SELECT {_COLUMNS} FROM actors WHERE tenant_id = %(tenant)s AND id = %(actor)s"
_ACTIVATE = f"""
UPDATE actors
SET generation = generation + 1, activated_at = now(), updated_at = now()
WHERE tenant_id = %(tenant)s AND id = %(actor)s
RETURNING {_COLUMNS}
"""
_SAVE = f"""
UPDATE actors
SET state = %(state)s::jsonb, version = version + 1, updated_at = now()
WHERE tenant_id = %(tenant)s AND id = %(actor)s
    AND generation = %(generation)s AND version = %(version)s
RETURNING {_COLUMNS}
"""


@dataclass(frozen=True, slots=True)
class Actor:
    """An actor as it is stored; after :func:`activate`, also the incarnation that may act.

    :ivar version: counts the saves; a save names the version that it was made on
    :ivar generation: counts the activations; what an older incarnation carries is refused
    """

    tenant: UUID
    id: UUID
    agent: UUID
    kind: str
    state: dict[str, Any]
    version: int
    generation: int
    created_at: datetime
    updated_at: datetime
    activated_at: datetime | None

    @property
    def owner(self) -> str:
        """The owner's name of this incarnation's claims."""
        return f"actor {self.id} #{self.generation}"


@dataclass(frozen=True, slots=True)
class Recovery:
    """The answer to "what was I doing?".

    :ivar claims: the tasks that the actor holds, with leases that have not run out
    :ivar unfinished: the tasks that are the actor's and have not ended, at most 1,000 of them
    """

    actor: Actor
    claims: tuple[Claim, ...]
    unfinished: tuple[Unfinished, ...]


def register(
    tenant: UUID,
    *,
    kind: str,
    agent: UUID,
    state: dict[str, Any] | None = None,
    id: UUID | None = None,  # noqa: A002  what it is everywhere else
) -> WorkFactory[Actor]:
    """Register an actor; registering it again with the same kind and agent gives what is stored.

    :param agent: the agent that owns it
    :param state: its first state, a JSON object of at most 1 MiB
    :param id: default a new one
    :raises AlreadyExists: when the id belongs to an actor of another kind or agent
    """
    params = {
        **_key(tenant, new_id() if id is None else id),
        "kind": checks.text("kind", kind, most=200),
        "agent": checks.uuid("agent", agent),
        "state": _state({} if state is None else state),
    }
    return partial(_register, params)


def get(tenant: UUID, actor: UUID) -> WorkFactory[Actor]:
    """Read an actor.

    :raises UnknownActor: when the tenant has none of this id
    """
    return partial(_get, _key(tenant, actor))


def activate(
    tenant: UUID, actor: UUID, *, lease: float | timedelta = 60.0
) -> WorkFactory[Recovery]:
    """Begin a new incarnation: fence the older ones, take their claims over, and recover.

    The claims of the former incarnation become this one's, with new fencing numbers and new leases:
    decide for each whether to go on or to give it back.

    :param lease: seconds that the claims are held for
    :raises UnknownActor: when the tenant has none of this id
    """
    return partial(_activate, {**_key(tenant, actor), "lease": checks.lease(lease)})


def save(actor: Actor, state: dict[str, Any]) -> WorkFactory[Actor]:
    """Save the state of an incarnation; the result carries the next version.

    :raises StaleActor: when a newer incarnation was activated
    :raises VersionChanged: when the state was saved from somewhere else meanwhile
    """
    params = {
        **_key(actor.tenant, actor.id),
        "generation": actor.generation,
        "version": actor.version,
        "state": _state(state),
    }
    return partial(_save, params)


def recover(tenant: UUID, actor: UUID) -> WorkFactory[Recovery]:
    """Say what an actor was doing, in one round trip: registration, state, claims, tasks.

    It changes nothing: a restarted actor calls :func:`activate`, which tells the same.

    :raises UnknownActor: when the tenant has none of this id
    """
    return partial(_recover, _key(tenant, actor))


def stale(actor: UUID, generation: int, current: int) -> StaleActor:
    """Return the error of an older incarnation."""
    return StaleActor(
        f"incarnation {generation} of actor {actor} is fenced: incarnation {current} was activated "
        "since; stop this one"
    )


def _key(tenant: UUID, actor: UUID) -> dict[str, Any]:
    return {"tenant": checks.uuid("tenant", tenant), "actor": checks.uuid("actor", actor)}


def _state(state: dict[str, Any]) -> str:
    return checks.mapping("state", state, most=checks.STATE_BYTES)


def _register(params: dict[str, Any]) -> Work[Actor]:
    rows = yield Query(_REGISTER, params)
    if rows:
        return Actor(*rows[0])
    found = yield from _get(params)
    if (found.kind, found.agent) != (params["kind"], params["agent"]):
        raise AlreadyExists(
            f"actor {found.id} is there already, of kind {found.kind!r} and agent {found.agent}: "
            "give another id"
        )
    return found


def _get(params: dict[str, Any]) -> Work[Actor]:
    rows = yield Query(_GET, params)
    return Actor(*_first(rows, params))


def _activate(params: dict[str, Any]) -> Work[Recovery]:
    rows = yield Query(_ACTIVATE, params)
    actor = Actor(*_first(rows, params))
    # A statement of its own: whoever claimed under the former generation has let go of the
    # actor's row by now, so this one sees every claim.
    taken = yield Query(load("take_over_claims"), {**params, "owner": actor.owner})
    found = yield from _recover(params)
    claims = tuple(Claim.from_row(actor.tenant, row) for row in taken)
    return Recovery(actor, claims, found.unfinished)


def _save(params: dict[str, Any]) -> Work[Actor]:
    rows = yield Query(_SAVE, params)
    if rows:
        return Actor(*rows[0])
    found = yield from _get(params)
    if found.generation != params["generation"]:
        raise stale(found.id, params["generation"], found.generation)
    raise VersionChanged(
        f"the state of actor {found.id} has version {found.version}, and the save was made on "
        f"version {params['version']}: read it again"
    )


def _recover(params: dict[str, Any]) -> Work[Recovery]:
    rows = yield Query(load("recover_actor"), {**params, "most": UNFINISHED_LISTED})
    *actor, claims, unfinished = _first(rows, params)
    return Recovery(
        Actor(*actor),
        tuple(Claim.from_json(it) for it in claims),
        tuple(Unfinished.from_json(it) for it in unfinished),
    )


def _first(rows: list[Row], params: dict[str, Any]) -> Row:
    if not rows:
        raise UnknownActor(
            f"tenant {params['tenant']} has no actor {params['actor']}: check the id, or register "
            "it"
        )
    return rows[0]
