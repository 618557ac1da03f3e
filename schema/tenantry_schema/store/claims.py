"""Claims: leases with a fencing number (design, section 6; facts: reliability R10, F14).

A claim is ``(task, owner, fence)`` until ``lease_until`` by the database's clock. Whoever claims
the task next raises the fence, so renewing, progress, finishing and failing by an older claim
change no row: they raise :class:`~tenantry_schema.errors.LeaseLost`. Nobody has to watch over
leases: one that ran out is taken by whoever claims next. A lease that ran out but was taken by
nobody is still its owner's: no second owner exists, so finishing is right.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from tenantry_schema.errors import InvalidInput, LeaseLost, UnknownActor
from tenantry_schema.naming import TASK_CHANNEL
from tenantry_schema.query import Query
from tenantry_schema.sql import load
from tenantry_schema.states import after_failure
from tenantry_schema.store import checks
from tenantry_schema.store.actors import Actor, stale
from tenantry_schema.store.retry import backoff
from tenantry_schema.store.rows import Claim

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from uuid import UUID

    from tenantry_schema.query import Work, WorkFactory

#: Claims of one statement.
LARGEST_BATCH = 1000
#: Characters of an error that are kept.
ERROR_KEPT = 2000

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
    AND state = 'running'
RETURNING id
"""


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
    most = checks.whole("most", most, least=1, most=LARGEST_BATCH)
    params: dict[str, Any] = {
        "tenant": checks.uuid("tenant", tenant),
        "queue": checks.queue(queue),
        "lease": checks.lease(lease),
        "locked": False,
    }
    if isinstance(owner, Actor):
        named = {"owner": owner.owner, "actor": owner.id}
        return partial(_claim, {**params, **named}, most, owner.generation)
    name = checks.text("owner", owner, most=200)
    return partial(_claim, {**params, "owner": name, "actor": None}, most, None)


def renew(claims: Sequence[Claim], *, lease: float | timedelta = 60.0) -> WorkFactory[set[UUID]]:
    """Renew many claims of one tenant and owner in one statement; give the ids of those lost.

    A lease that ran out is renewed as long as nobody else took the task, but not within a limit
    (:func:`~tenantry_schema.store.tasks.limit`): there its place may be somebody else's.

    :param lease: seconds from now, by the database's clock
    """
    return partial(_renew, claims, {**_held(claims), "lease": checks.lease(lease)})


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


def finish(claim: Claim, result: Any = None) -> WorkFactory[None]:
    """Finish a task; what needs only it becomes ready in the same transaction.

    :param result: a JSON value of at most 256 KiB
    :raises LeaseLost: when the claim is gone: roll back what belongs to the task
    """
    return partial(_finish_one, claim, _finished([claim], [result]))


def finish_with(claim: Claim, work: WorkFactory[Any]) -> WorkFactory[None]:
    """Finish a task in the transaction of its effects: both are committed, or neither.

    :param work: the effects, as a factory; what it returns is the task's result
    :raises LeaseLost: when the claim is gone; the effects are rolled back
    """
    return partial(_finish_with, claim, work)


def finish_many(done: Sequence[tuple[Claim, Any]], *, own: int = 0) -> WorkFactory[set[UUID]]:
    """Finish many tasks of one tenant and owner at once; give the ids of those lost.

    :param done: claims with their results
    :param own: of how many new ready tasks per queue listening workers are not told, because the
        caller takes them
    """
    claims = [claim for claim, _ in done]
    return partial(_finish, claims, _finished(claims, [it for _, it in done], own=own))


def exchange(
    done: Sequence[tuple[Claim, Any]],
    owner: str | Actor,
    *,
    queue: str = "default",
    most: int = 1,
    lease: float | timedelta = 60.0,
) -> WorkFactory[tuple[set[UUID], list[Claim]]]:
    """Finish tasks and claim the next ones in one transaction, which costs one commit, not two.

    Gives the ids of those lost, and the claims. What becomes ready by the finish may be among them.

    :param done: claims of one tenant and of this owner, with their results; at least one
    :raises StaleActor: when a newer incarnation of the actor was activated; nothing is finished
    """
    claims = [claim for claim, _ in done]
    finished = _finished(claims, [result for _, result in done])
    name = owner.owner if isinstance(owner, Actor) else owner
    if finished["owner"] != name:
        raise InvalidInput(
            f"owner= is {name!r:.60}, and the claims are held by {finished['owner']!r:.60}: only "
            "their owner can exchange them"
        )
    following = claim(finished["tenant"], owner, queue=queue, most=most, lease=lease)
    return partial(_exchange, claims, finished, following)


def fail(claim: Claim, error: str, *, retry: bool = True) -> WorkFactory[str]:
    """Say that an attempt failed; give the task's new state.

    While attempts are left the task becomes ``ready`` after a back-off; then ``failed``, which
    fails or skips what needs it, or ``dead``, as it was submitted.

    :param error: what went wrong; the first 2,000 characters are kept
    :param retry: False gives up at once
    :raises LeaseLost: when the claim is gone
    """
    kept = checks.text("error", error[:ERROR_KEPT].replace("\0", "�"), most=ERROR_KEPT)
    return partial(_fail, claim, kept, retry=bool(retry))


def release(claims: Sequence[Claim]) -> WorkFactory[set[UUID]]:
    """Give tasks back undone, without counting the attempt; give the ids of those lost."""
    params = {
        **_held(claims),
        "delays": ["0"] * len(claims),
        "errors": [None] * len(claims),
        "refund": 1,
    }
    return partial(_return, claims, params)


def _held(claims: Sequence[Claim]) -> dict[str, Any]:
    if len(claims) > LARGEST_BATCH:
        raise InvalidInput(f"{len(claims):,} claims are more than {LARGEST_BATCH:,}: send parts")
    places = {(claim.tenant, claim.owner) for claim in claims}
    if len(places) != 1:
        raise InvalidInput(
            f"claims of one tenant and one owner are expected, not of {len(places)}: call once for "
            "each"
        )
    tenant, owner = places.pop()
    return {
        "tenant": tenant,
        "owner": owner,
        "ids": [claim.id for claim in claims],
        "fences": [claim.fence for claim in claims],
    }


def _finished(claims: Sequence[Claim], results: Sequence[Any], *, own: int = 0) -> dict[str, Any]:
    texts = [None if it is None else checks.document("result", it) for it in results]
    return {**_held(claims), "results": texts, "own": own, "channel": TASK_CHANNEL}


def _claim(params: dict[str, Any], most: int, generation: int | None) -> Work[list[Claim]]:
    if generation is not None:
        yield from _check_incarnation(params, generation)
    rows = yield Query(_claim_text(most), params)
    if rows[0][0]:
        rows = yield from _claim_within_bounds(params, most)
    claims = [Claim.from_row(params["tenant"], row[1:]) for row in rows if row[1] is not None]
    given_up = [it for it in claims if it.late or it.crashes > it.max_crashes]
    for lost in given_up:
        yield from _give_up(lost)
    return [it for it in claims if it not in given_up] if given_up else claims


def _check_incarnation(params: dict[str, Any], generation: int) -> Work[None]:
    rows = yield Query(_INCARNATION, params)
    if not rows:
        raise UnknownActor(f"tenant {params['tenant']} has no actor {params['actor']}")
    if rows[0][0] != generation:
        raise stale(params["actor"], generation, rows[0][0])


@lru_cache(maxsize=LARGEST_BATCH)
def _claim_text(most: int) -> str:
    return load("claim_tasks").replace("{most}", str(most))


def _claim_within_bounds(params: dict[str, Any], most: int) -> Work[list[Any]]:
    """Claim under the limits' locks: whoever else claims waits, and then counts these claims."""
    bounds = yield Query(_BOUNDS, params)
    rows = yield Query(_RUNNING, params)
    in_queue, in_all = rows[0]
    room = [bound - (in_all if queue == "*" else in_queue) for queue, bound in bounds]
    most = min([most, *room])
    if most < 1:
        return []
    found = yield Query(_claim_text(most), {**params, "locked": True})
    return found


def _give_up(claim: Claim) -> Work[None]:
    if claim.late:
        yield _end(claim, "failed", f"the deadline {claim.deadline} passed before it was done")
        return
    leases = f"{claim.crashes} leases ran out: its worker died or hung each time"
    yield _end(claim, claim.exhausted, leases)


def _renew(claims: Sequence[Claim], params: dict[str, Any]) -> Work[set[UUID]]:
    rows = yield Query(load("renew_claims"), params)
    return _lost(claims, rows)


def _progress(claim: Claim, params: dict[str, Any]) -> Work[None]:
    rows = yield Query(_PROGRESS, params)
    if not rows:
        raise lease_lost(claim)


def _finish(claims: Sequence[Claim], params: dict[str, Any]) -> Work[set[UUID]]:
    rows = yield Query(load("finish_tasks"), params)
    needed = [task for task, is_needed in rows if is_needed]
    if needed:
        # A graph's edges are stored with its tasks, so that no edge can have come since.
        yield Query(load("meet_needs"), {**params, "ids": needed})
    return _lost(claims, rows)


def _exchange(
    claims: Sequence[Claim], params: dict[str, Any], following: WorkFactory[list[Claim]]
) -> Work[tuple[set[UUID], list[Claim]]]:
    lost = yield from _finish(claims, params)
    found = yield from following()
    return lost, found


def _finish_one(claim: Claim, params: dict[str, Any]) -> Work[None]:
    if (yield from _finish([claim], params)):
        raise lease_lost(claim)


def _finish_with(claim: Claim, work: WorkFactory[Any]) -> Work[None]:
    result = yield from work()
    yield from finish(claim, result)()


def _fail(claim: Claim, error: str, *, retry: bool) -> Work[str]:
    failures = claim.attempt - claim.crashes
    state = after_failure(
        failures=failures if retry else claim.max_attempts,
        max_attempts=claim.max_attempts,
        exhausted=claim.exhausted,
    )
    if state == "ready":
        pause = backoff(failures, first_ms=claim.backoff_ms, most_ms=claim.backoff_most_ms)
        again = {**_held([claim]), "delays": [pause], "errors": [error], "refund": 0}
        rows = yield Query(load("return_tasks"), again)
    else:
        rows = yield _end(claim, state, error)
    if not rows:
        raise lease_lost(claim)
    return state


def _return(claims: Sequence[Claim], params: dict[str, Any]) -> Work[set[UUID]]:
    rows = yield Query(load("return_tasks"), params)
    return _lost(claims, rows)


def _end(claim: Claim, state: str, error: str) -> Query:
    params = {**_held([claim]), "errors": [error], "state": state, "channel": TASK_CHANNEL}
    return Query(load("end_tasks"), params)


def _lost(claims: Sequence[Claim], rows: list[Any]) -> set[UUID]:
    return {claim.id for claim in claims} - {row[0] for row in rows}


def lease_lost(claim: Claim) -> LeaseLost:
    """Return the error of a claim that is gone."""
    return LeaseLost(
        f"task {claim.id} ({claim.kind}) of tenant {claim.tenant} is no longer held by "
        f"{claim.owner!r} with fence {claim.fence}: its lease ran out and somebody else claimed "
        "it, or it was cancelled; stop, and roll back what belongs to it"
    )
