"""pg_partman, both ways: take over what it began, and let it take over what tenantry began.

What a set is named by stands in ``part_config.datetime_string``, not in the extension's version:
sets keep it through upgrades. Columns come and go between releases, so they are asked for.
"""

from __future__ import annotations

from tenantry_partitions.partman.config import PartmanSet, exported, policy_of
from tenantry_partitions.partman.doctor import examine
from tenantry_partitions.partman.extension import (
    Extension,
    find_extension,
    read_sets,
    set_automatic,
    write_set,
)
from tenantry_partitions.partman.gather import adopted_policy, diagnose

__all__ = [
    "Extension",
    "PartmanSet",
    "adopted_policy",
    "diagnose",
    "examine",
    "exported",
    "find_extension",
    "policy_of",
    "read_sets",
    "set_automatic",
    "write_set",
]
