"""Perform a plan: note each step, do it, and look at the end whether anything is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenantry.conninfo import parse
from tenantry_ops.failover.journal import Journal
from tenantry_ops.failover.record import catalog_on, open_catalog
from tenantry_ops.failover.steps import Do, Step
from tenantry_schema.errors import CatalogUnavailable, FailoverUnfinished

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tenantry_ops.failover.act import Actor
    from tenantry_ops.failover.standing import ShardStanding

_SYSTEM = "SELECT system_identifier::text FROM pg_control_system()"
_DARK = frozenset({Do.STOP, Do.CLOSE, Do.FENCE, Do.PROMOTE})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change of primary came to.

    :ivar loss: what may be lost, in words; None where nothing can be
    :ivar remaining: what is left to the operator, because the servers are not ours
    """

    shard: str
    primary: str
    steps: tuple[str, ...]
    loss: str | None
    remaining: tuple[str, ...]


class Performance:
    """One operation on one shard, from its row in the catalog to its end."""

    def __init__(
        self, kind: str, catalog: str, actor: Actor, progress: Callable[[str], None]
    ) -> None:
        self.actor = actor
        self.done: list[Step] = []
        self._catalog = catalog
        self._progress = progress
        self._journal = Journal(kind, actor.record.name)
        self._detail: dict[str, Any] = {}
        self._here = False
        self._dark = False
        actor.journal_pid = lambda: self._journal.pid

    def begin(self, shard: ShardStanding, detail: dict[str, Any]) -> None:
        """Write the row before the first step; after the promotion, where there is no catalog.

        :raises CatalogUnavailable: when a catalog that lies elsewhere has no primary
        """
        with open_catalog(self._catalog) as conn:
            where = conn.execute(_SYSTEM).fetchone()
        self._here = where in {(it.system_identifier,) for it in shard.nodes}
        self._detail = detail
        try:
            self._journal.begin(self._where(shard), detail)
        except CatalogUnavailable:
            if not self._here:
                raise
            self._dark = True

    def perform(self, steps: Sequence[Step]) -> None:
        """Do steps in their order."""
        for step in steps:
            self._dark = self._dark or (self._here and step.do in _DARK)
            if not self._dark or step.do in {Do.STOP, Do.CLOSE}:
                self._journal.note(str(step))
            self._progress(str(step))
            self.done.append(step)
            self.actor.do(step)
            if step.do is Do.RESUME and self._dark:
                self._journal.begin(self._where(self.actor.ask()), self._detail)
                self._dark = False

    def promoting(self) -> bool:
        """Say whether a promotion was begun, from where there is no way back."""
        return any(step.do is Do.PROMOTE for step in self.done)

    def end(self, left: Sequence[Step]) -> None:
        """Write that it is done.

        :param left: what a plan made now still wants
        :raises FailoverUnfinished: when that is more than the operator was told
        """
        ours = self.actor.hands.ours
        open_ = [it for it in left if it.node in ours or it.do is not Do.REWIRE]
        if open_ and not all(it.do is Do.RESUME for it in open_):
            raise FailoverUnfinished(
                f"shard {self.actor.record.name}: {', '.join(map(str, open_))} is left: run it "
                "again, it goes on where it stopped"
            )
        self._journal.end("done")

    def failed(self, error: BaseException) -> None:
        """Write that it failed and was taken back."""
        self._journal.end("failed", type(error).__name__)

    def supersede(self, kind: str) -> None:
        """Write that this operation replaces another that was begun on the shard."""
        self._journal.supersede(kind)

    def close(self) -> None:
        """Let go of the catalog."""
        self._journal.close()

    def outcome(self, primary: str, loss: str | None = None) -> Outcome:
        """Return what it came to."""
        steps = tuple(map(str, self.done))
        return Outcome(self.actor.record.name, primary, steps, loss, tuple(self.actor.remaining))

    def _where(self, shard: ShardStanding) -> str:
        """Return the catalog on the shard's primary, where it lies there, not on a deposed one."""
        head = shard.primary
        if not self._here or head is None:
            return self._catalog
        place = catalog_on(parse(self._catalog), self.actor.record.node(head.node))
        return place or self._catalog
