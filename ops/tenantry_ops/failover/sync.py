"""``synchronous_standby_names``: who must have a commit before it is acknowledged: pure.

Whoever acknowledged a commit heard of it from ``count`` of the named standbys. So when at least
``names - count + 1`` of them answer, one of those has every acknowledged commit, and the one whose
history goes farthest has them all (the arithmetic of quorums, as in Patroni's quorum.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_METHOD = re.compile(r"(?:(?:FIRST|ANY)\s+)?(\d+)\s*\((.*)\)\Z", re.IGNORECASE | re.DOTALL)
_NAME = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^\s,"]+))\s*(?:,|\Z)')


@dataclass(frozen=True, slots=True)
class Sync:
    """How many of which standbys must confirm.

    :ivar names: of standbys (their ``application_name``, in any case), or None for any (``*``)
    """

    count: int
    names: frozenset[str] | None

    @classmethod
    def parse(cls, setting: str) -> Sync | None:
        """Read the setting as Postgres does; None when it asks for nobody."""
        text = setting.strip()
        if not text:
            return None
        found = _METHOD.match(text)
        count, listed = (int(found[1]), found[2]) if found else (1, text)
        names = frozenset(
            (quoted.replace('""', '"') or plain).lower() for quoted, plain in _NAME.findall(listed)
        )
        return cls(count, None if "*" in names else names)

    def proves(self, dead: str, answering: Iterable[str], listed: Collection[str]) -> bool:
        """Say whether the standbys that answer must have every acknowledged commit between them.

        :param dead: the former primary, which never confirmed to itself
        :param listed: all nodes of the shard, for a setting that names no names
        """
        named = listed if self.names is None else self.names
        voters = {name.lower() for name in named} - {dead.lower()}
        heard = voters & {name.lower() for name in answering}
        return len(heard) >= max(1, len(voters) - self.count + 1)


def setting_for(names: Iterable[str]) -> str:
    """Return the setting that makes any one of the standbys confirm."""
    listed = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    return f"ANY 1 ({listed})"
