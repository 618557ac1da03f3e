"""How an attempt at a task ends: finished, failed, or given back; always by its fencing number.

What an older claim says changes no row: it raises :class:`~tenantry_schema.errors.LeaseLost`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from tenantry_schema.errors import InvalidInput
from tenantry_schema.naming import TASK_CHANNEL
from tenantry_schema.query import Query
from tenantry_schema.sql import load
from tenantry_schema.states import after_failure
from tenantry_schema.store import checks
from tenantry_schema.store.actors import Actor
from tenantry_schema.store.claims import by_age, end, held, lease_lost, lost
from tenantry_schema.store.claims import claim as next_claim
from tenantry_schema.store.retry import backoff

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from tenantry_schema.query import Work, WorkFactory
    from tenantry_schema.store.rows import Claim

#: Characters of an error that are kept.
ERROR_KEPT = 2000

# Always in the same order, so that two who lock the same tasks do not block each other. The ids go
# through a subquery: seeing how few they are, Postgres would plan each execution anew.
_FREE = """WITH free AS MATERIALIZED (
    SELECT task.id
    FROM tasks AS task
    WHERE task.tenant_id = %(tenant)s AND task.id = ANY (ARRAY(SELECT unnest(%(ids)s::uuid[])))
    ORDER BY task.id
    FOR UPDATE SKIP LOCKED
),
ended AS"""
_ALL = "task.id = ANY (ARRAY(SELECT unnest(%(ids)s::uuid[])))"
_THE_FREE = "task.id = ANY (ARRAY(SELECT id FROM free))"


@dataclass(frozen=True, slots=True)
class Finish:
    """What finishes one task: a factory of its work, and what :func:`finish_all` joins.

    :ivar result: JSON, or None
    """

    claim: Claim
    result: str | None

    def __call__(self) -> Work[None]:
        """Finish the task by a statement of its own."""
        if (yield from finish_all([self])()):
            raise lease_lost(self.claim)


def finish(claim: Claim, result: Any = None) -> Finish:
    """Finish a task; what needs only it becomes ready in the same transaction.

    :param result: a JSON value of at most 256 KiB
    :raises LeaseLost: when the claim is gone: roll back what belongs to the task
    """
    return Finish(claim, None if result is None else checks.document("result", result))


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
    return finish_all([finish(claim, result) for claim, result in done], own=own)


def finish_all(finishes: Sequence[Finish], *, own: int = 0) -> WorkFactory[set[UUID]]:
    """Join the finishes of one tenant and owner in one statement; give the ids of those lost.

    :param own: as of :func:`finish_many`
    """
    return _joined(finishes, load("finish_tasks"), own, last=False)


def finish_free(finishes: Sequence[Finish]) -> WorkFactory[set[UUID]]:
    """Join finishes, and wait for nobody who holds one of the rows; give the ids of those left.

    They may be lost, or not free at the moment: their own :func:`finish` tells. The COMMIT travels
    along.
    """
    return _joined(finishes, _free_text(), 0, last=True)


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
    finishes = finish_many(done)
    former = done[0][0]
    name = owner.owner if isinstance(owner, Actor) else owner
    if former.owner != name:
        raise InvalidInput(
            f"owner= is {name!r:.60}, and the claims are held by {former.owner!r:.60}: only "
            "their owner can exchange them"
        )
    following = next_claim(former.tenant, owner, queue=queue, most=most, lease=lease)
    return partial(_exchange, finishes, following)


def fail(claim: Claim, error: str, *, retry: bool = True) -> WorkFactory[str]:
    """Say that an attempt failed; give the task's new state.

    While attempts are left the task becomes ``ready`` after a back-off; then ``failed``, which
    fails or skips what needs it, or ``dead``, as it was submitted.

    :param error: what went wrong; the first 2,000 characters are kept
    :param retry: False gives up at once
    :raises LeaseLost: when the claim is gone
    """
    kept = checks.text(
        "error", error[:ERROR_KEPT].replace("\0", "\N{REPLACEMENT CHARACTER}"), most=ERROR_KEPT
    )
    return partial(_fail, claim, kept, retry=bool(retry))


def release(claims: Sequence[Claim]) -> WorkFactory[set[UUID]]:
    """Give tasks back undone, without counting the attempt; give the ids of those lost."""
    params = {**held(claims), "delay": timedelta(), "error": None, "refund": 1}
    return partial(_return, claims, params)


@cache
def _free_text() -> str:
    return load("finish_tasks").replace(_ALL, _THE_FREE).replace("WITH ended AS", _FREE)


def _joined(
    finishes: Sequence[Finish], text: str, own: int, *, last: bool
) -> WorkFactory[set[UUID]]:
    # The order that held() makes, so that results stay with their tasks.
    ordered = sorted(finishes, key=lambda it: by_age(it.claim))
    claims = [it.claim for it in ordered]
    params = {
        **held(claims),
        "results": [it.result for it in ordered],
        "own": own,
        "channel": TASK_CHANNEL,
    }
    return partial(_finish, claims, text, params, last=last)


def _finish(
    claims: Sequence[Claim], text: str, params: dict[str, Any], *, last: bool
) -> Work[set[UUID]]:
    # A graph's edges are stored with its tasks, so that no edge can have come since the claim.
    needed = {it.id for it in claims if it.needed}
    rows = yield Query(text, params, last=last and not needed)
    met = [task for (task,) in rows if task in needed]
    if needed:
        yield Query(load("meet_needs"), {**params, "ids": met}, last=last)
    return lost(claims, rows)


def _exchange(
    finishes: WorkFactory[set[UUID]], following: WorkFactory[list[Claim]]
) -> Work[tuple[set[UUID], list[Claim]]]:
    gone = yield from finishes()
    found = yield from following()
    return gone, found


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
        again = {**held([claim]), "delay": pause, "error": error, "refund": 0}
        rows = yield Query(load("return_tasks"), again)
    else:
        rows = yield end(claim, state, error)
    if not rows:
        raise lease_lost(claim)
    return state


def _return(claims: Sequence[Claim], params: dict[str, Any]) -> Work[set[UUID]]:
    rows = yield Query(load("return_tasks"), params)
    return lost(claims, rows)
