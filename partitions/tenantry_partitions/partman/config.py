"""A row of ``part_config`` as a policy, and a policy as such a row: pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tenantry_partitions.encoding import Encoding
from tenantry_partitions.policy import AtEnd, Policy
from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

_EPOCHS = {"none": None, "seconds": Encoding.SECONDS, "milliseconds": Encoding.MILLISECONDS}
_KINDS = frozenset({"native", "range"})
_FIRST_NATIVE_ONLY = 5


@dataclass(frozen=True, slots=True)
class PartmanSet:
    """What pg_partman keeps of a set, in the columns that versions 4.7 and 5 share."""

    parent_table: str
    control: str
    partition_type: str
    partition_interval: str
    premake: int
    epoch: str
    retention: str | None
    retention_schema: str | None
    retention_keep_table: bool
    infinite_time_partitions: bool
    datetime_string: str | None
    automatic_maintenance: str
    undo_in_progress: bool
    ignore_default_data: bool

    @property
    def target(self) -> tuple[str, str]:
        """Schema and table."""
        schema, _, table = self.parent_table.partition(".")
        return schema, table


def policy_of(given: PartmanSet, starts: Sequence[datetime] = ()) -> Policy:
    """Return the policy by which tenantry goes on with a set.

    :param starts: where its partitions begin: a set that pg_partman began on a day of its own goes
        on from that day
    :raises InvalidConfig: naming the set, and why it cannot be taken over
    """
    name = given.parent_table
    if given.partition_type not in _KINDS:
        raise InvalidConfig(
            f"set {name!r:.80} is of type {given.partition_type!r}, not native by RANGE: make "
            "it a declarative one first"
        )
    if given.epoch not in _EPOCHS:
        raise InvalidConfig(f"set {name!r:.80} counts {given.epoch}, which is not known here")
    if given.retention_schema is not None:
        raise InvalidConfig(
            f"set {name!r:.80} moves old partitions to schema {given.retention_schema!r}: tenantry "
            "detaches, drops or archives them; set retention_schema to NULL first"
        )
    row = {
        "control": given.control,
        "interval": given.partition_interval,
        "premake": given.premake,
        "retention": given.retention,
        "at_end": _at_end(given),
        "encoding": _EPOCHS[given.epoch],
        "names": given.datetime_string,
    }
    try:
        return _anchored(row, starts)
    except InvalidConfig as error:
        raise InvalidConfig(f"set {name!r:.80}: {error}") from error


def exported(name: str, policy: Policy, encoding: Encoding, major: int) -> dict[str, Any]:
    """Return the row by which pg_partman goes on with a set.

    :param major: pg_partman's major version
    :raises InvalidConfig: for what pg_partman cannot do
    """
    if encoding is Encoding.UUID7:
        raise InvalidConfig(
            f"table {name!r:.80} is partitioned by a uuid, which pg_partman takes from 5.2 on with "
            "functions of your own: register it there by hand"
        )
    if policy.at_end is AtEnd.ARCHIVE:
        raise InvalidConfig(
            f"table {name!r:.80} is archived before it is dropped, which pg_partman does not do: "
            "choose `--at-end detach` first"
        )
    keeps = policy.at_end is AtEnd.KEEP
    return {
        "parent_table": name,
        "control": policy.control,
        "partition_type": "native" if major < _FIRST_NATIVE_ONLY else "range",
        "partition_interval": str(policy.interval),
        "premake": policy.premake,
        "epoch": "none" if encoding is Encoding.TIME else encoding.value,
        "retention": None if keeps or policy.retention is None else str(policy.retention),
        "retention_keep_table": policy.at_end is not AtEnd.DROP,
        # Without it a set without new rows runs out, and nothing is said.
        "infinite_time_partitions": True,
        "datetime_string": policy.pattern,
        "automatic_maintenance": "on",
    }


def _at_end(given: PartmanSet) -> AtEnd:
    if given.retention is None:
        return AtEnd.KEEP
    return AtEnd.DETACH if given.retention_keep_table else AtEnd.DROP


def _anchored(row: dict[str, Any], starts: Sequence[datetime]) -> Policy:
    newest = max(starts, default=None)
    try:
        policy = Policy.parse(row)
    except InvalidConfig:
        if newest is None:
            raise
        return Policy.parse({**row, "anchor": newest})
    if newest is not None and policy.grid.floor(newest) != newest:
        return replace(policy, anchor=newest)
    return policy
