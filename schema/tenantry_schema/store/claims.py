"""Claims: leases with a fencing number (design, section 6; facts: reliability R10, F14).

A claim is ``(task, owner, fence)`` until ``lease_until`` by the database's clock. Whoever claims
the task next raises the fence, so renewing, progress, finishing and failing by an older claim
change no row: they raise :class:`~tenantry_schema.errors.LeaseLost`. Nobody has to watch over
leases: one that ran out is taken by whoever claims next. A lease that ran out but was taken by
nobody is still its owner's: no second owner exists, so finishing is right.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tenantry_schema.errors import InvalidInput, LeaseLost, UnknownActor
from tenantry_schema.naming import TASK_CHANNEL
from tenantry_schema.query import Query
from tenantry_schema.sql import load
from tenantry_schema.store import checks
from tenantry_schema.store.actors import Actor, stale
from tenantry_schema.store.rows import Claim

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from uuid import UUID

    from tenantry_schema.query import Work, WorkFactory

#: Claims of one statement.
LARGEST_BATCH = 1000

# FOR SHARE: an activation waits for a claim in flight, and then sees it.
_INCARNATION = """
SELECT generation FROM actors WHERE tenant_id = %(tenant)s AND id = %(actor)s FOR SHARE
"""
_BOUNDS = """
SELECT queue, most FROM task_limits
WHERE tenant_id = %(tenant)s AND queue IN (%(queue)s, '*')
ORDER BY queue
FOR UPDATE
"""
_RUNNING = """
SELECT count(*) FILTER (WHERE queue = %(queue)s), count(*)
FROM tasks
WHERE tenant_id = %(tenant)s AND state = 'running' AND lease_until >= clock_timestamp()
"""
_PROGRESS = """
UPDATE tasks
SET progress = %(progress)s::jsonb
WHERE tenant_id = %(tenant)s AND id = %(task)s AND fence = %(fence)s AND owner = %(owner)s
RETURNING id
"""


class Taken(NamedTuple):
    """What was taken.

    :ivar spent: claims of what is given up on, for :func:`give_up`
    :ivar limited: whether a limit holds for the queue: places in it become free when tasks end
    """

    claims: list[Claim]
    spent: list[Claim]
    limited: bool


def claim(
    tenant: UUID,
    owner: str | Actor,
    *,
    queue: str = "default",
    most: int = 1,
    lease: float | timedelta = 60.0,
) -> WorkFactory[list[Claim]]:
    """Claim the next tasks of a tenant's queue: expired leases first, then by priority and age.

    What was given up on (its leases ran out too often, or its deadline passed) is ended on the way,
    and is not among the claims.

    :param owner: a name that no other worker has, ever; or the incarnation of an actor
    :param most: how many at most, 1 to 1,000; a full batch does not say that there is no more
    :param lease: seconds, by the database's clock
    :raises StaleActor: when a newer incarnation of the actor was activated
    """
    generation = owner.generation if isinstance(owner, Actor) else None
    return partial(_claim, *_asked(tenant, owner, queue, most, lease), generation)


def take(
    tenant: UUID, owner: str, *, queue: str, most: int, lease: float | timedelta
) -> WorkFactory[Taken]:
    """Claim by one statement, whose COMMIT travels along; nothing where there is a limit.

    :raises OutcomeUnknown: when the answer does not come: what was taken is left to its lease
    """
    return partial(_take, *_asked(tenant, owner, queue, most, lease), last=True)


def take_within(
    tenant: UUID, owner: str, *, queue: str, most: int, lease: float | timedelta
) -> WorkFactory[Taken]:
    """Claim as many as the limits of a tenant allow."""
    return partial(_take_within, *_asked(tenant, owner, queue, most, lease))


def give_up(claims: Sequence[Claim]) -> WorkFactory[None]:
    """End tasks whose leases ran out too often, or whose deadline passed."""
    return partial(_give_up, claims)


def _asked(
    tenant: UUID, owner: str | Actor, queue: str, most: int, lease: float | timedelta
) -> tuple[dict[str, Any], int]:
    most = checks.whole("most", most, least=1, most=LARGEST_BATCH)
    params: dict[str, Any] = {
        "tenant": checks.uuid("tenant", tenant),
        "queue": checks.queue(queue),
        "lease": checks.lease(lease),
        "locked": False,
    }
    if isinstance(owner, Actor):
        named = {"owner": owner.owner, "actor": owner.id}
        return {**params, **named}, most
    name = checks.text("owner", owner, most=200)
    return {**params, "owner": name, "actor": None}, most


def renew(claims: Sequence[Claim], *, lease: float | timedelta = 60.0) -> WorkFactory[set[UUID]]:
    """Renew many claims of one tenant and owner in one statement; give the ids of those lost.

    A lease that ran out is renewed as long as nobody else took the task, but not within a limit
    (:func:`~tenantry_schema.store.tasks.limit`): there its place may be somebody else's.

    :param lease: seconds from now, by the database's clock
    """
    return partial(_renew, claims, {**held(claims), "lease": checks.lease(lease)})


def progress(claim: Claim, value: Any) -> WorkFactory[None]:
    """Keep how far a task is: the next owner finds it in ``claim.progress``.

    :raises LeaseLost: when the claim is gone
    """
    return partial(
        _progress,
        claim,
        {
            "tenant": claim.tenant,
            "task": claim.id,
            "fence": claim.fence,
            "owner": claim.owner,
            "progress": checks.document("progress", value),
        },
    )


def by_age(claim: Claim) -> int:
    """Return a key that sorts the newest claim first.

    Statements look up a task's fence where the task comes first, and of two claims of one task only
    the newest can hold.
    """
    return -claim.fence


def held(claims: Sequence[Claim]) -> dict[str, Any]:
    """Return what proves claims, as a statement's parameters: the newest first.

    :raises InvalidInput: unless they are of one tenant and one owner, and few enough
    """
    if len(claims) > LARGEST_BATCH:
        raise InvalidInput(f"{len(claims):,} claims are more than {LARGEST_BATCH:,}: send parts")
    places = {(claim.tenant, claim.owner) for claim in claims}
    if len(places) != 1:
        raise InvalidInput(
            f"claims of one tenant and one owner are expected, not of {len(places)}: call once for "
            "each"
        )
    tenant, owner = places.pop()
    ordered = sorted(claims, key=by_age)
    return {
        "tenant": tenant,
        "owner": owner,
        "ids": [claim.id for claim in ordered],
        "fences": [claim.fence for claim in ordered],
    }


def end(claim: Claim, state: str, error: str) -> Query:
    """Return the statement that ends a task undone, and tells those that need it."""
    params = {**held([claim]), "error": error, "state": state, "channel": TASK_CHANNEL}
    return Query(load("end_tasks"), params)


def lost(claims: Sequence[Claim], rows: list[Any]) -> set[UUID]:
    """Return the ids of the claims that a statement changed no row for."""
    return {claim.id for claim in claims} - {row[0] for row in rows}


def lease_lost(claim: Claim) -> LeaseLost:
    """Return the error of a claim that is gone."""
    return LeaseLost(
        f"task {claim.id} ({claim.kind}) of tenant {claim.tenant} is no longer held by "
        f"{claim.owner!r} with fence {claim.fence}: its lease ran out and somebody else claimed "
        "it, or it was cancelled; stop, and roll back what belongs to it",
        task=claim.id,
    )


def _claim(params: dict[str, Any], most: int, generation: int | None) -> Work[list[Claim]]:
    if generation is not None:
        yield from _check_incarnation(params, generation)
    taken = yield from _take(params, most)
    if taken.limited:
        taken = yield from _take_within(params, most)
    yield from _give_up(taken.spent)
    return taken.claims


def _take(params: dict[str, Any], most: int, *, last: bool = False) -> Work[Taken]:
    rows = yield Query(_claim_text(most), params, last=last)
    limited: bool = rows[0][0]
    found = [Claim.from_row(params["tenant"], row[1:]) for row in rows if row[1] is not None]
    spent = [it for it in found if it.late or it.crashes > it.max_crashes]
    return Taken([it for it in found if it not in spent] if spent else found, spent, limited)


def _check_incarnation(params: dict[str, Any], generation: int) -> Work[None]:
    rows = yield Query(_INCARNATION, params)
    if not rows:
        raise UnknownActor(f"tenant {params['tenant']} has no actor {params['actor']}")
    if rows[0][0] != generation:
        raise stale(params["actor"], generation, rows[0][0])


@lru_cache(maxsize=LARGEST_BATCH)
def _claim_text(most: int) -> str:
    return load("claim_tasks").replace("{most}", str(most))


def _take_within(params: dict[str, Any], most: int) -> Work[Taken]:
    """Claim under the limits' locks: whoever else claims waits, and then counts these claims."""
    bounds = yield Query(_BOUNDS, params)
    rows = yield Query(_RUNNING, params)
    in_queue, in_all = rows[0]
    room = [bound - (in_all if queue == "*" else in_queue) for queue, bound in bounds]
    most = min([most, *room])
    if most < 1:
        return Taken([], [], limited=True)
    taken = yield from _take({**params, "locked": True}, most)
    return taken._replace(limited=True)


def _give_up(claims: Sequence[Claim]) -> Work[None]:
    for it in claims:
        if it.late:
            yield end(it, "failed", f"the deadline {it.deadline} passed before it was done")
        else:
            leases = f"{it.crashes} leases ran out: its worker died or hung each time"
            yield end(it, it.exhausted, leases)


def _renew(claims: Sequence[Claim], params: dict[str, Any]) -> Work[set[UUID]]:
    rows = yield Query(load("renew_claims"), params)
    return lost(claims, rows)


def _progress(claim: Claim, params: dict[str, Any]) -> Work[None]:
    rows = yield Query(_PROGRESS, params)
    if not rows:
        raise lease_lost(claim)
