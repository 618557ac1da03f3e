"""Read every shard, and say which of them did not answer (design, section 9, rule 5): pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from tenantry.errors import InvalidInput, PartialResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tenantry_schema.query import Row

#: What a caller wants when some shards fail: an error, or what there is.
Partial = Literal["refuse", "accept"]


@dataclass(frozen=True, slots=True)
class ScatterResult:
    """The rows of every shard that answered, and why the others did not.

    :ivar rows: shard name -> rows
    :ivar failed: shard name -> error
    """

    rows: Mapping[str, list[Row]]
    failed: Mapping[str, Exception]

    @property
    def complete(self) -> bool:
        """Whether every shard answered."""
        return not self.failed

    def all(self) -> list[Row]:
        """Return the rows of all shards in the order of their names."""
        return [row for name in sorted(self.rows) for row in self.rows[name]]


def checked_partial(partial: Partial) -> Partial:
    """Return what a caller wants when some shards fail.

    :raises InvalidInput: for anything but the two words
    """
    if partial not in get_args(Partial):
        raise InvalidInput(f'partial= takes "refuse" or "accept", not {partial!r:.60}')
    return partial


def gather(answers: Mapping[str, list[Row] | Exception], partial: Partial) -> ScatterResult:
    """Combine the shards' answers.

    :raises PartialResult: when a shard failed and ``partial`` is ``"refuse"``
    """
    rows = {name: found for name, found in answers.items() if not isinstance(found, Exception)}
    failed = {name: found for name, found in answers.items() if isinstance(found, Exception)}
    if failed and partial == "refuse":
        first = next(iter(failed))
        raise PartialResult(
            f"{len(failed)} of {len(answers)} shards did not answer a scatter "
            f"({', '.join(sorted(failed))}; {first}: {failed[first]}): try again, or accept what "
            'there is with partial="accept"'
        ) from failed[first]
    return ScatterResult(rows, failed)
