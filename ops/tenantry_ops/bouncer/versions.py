"""Which PgBouncer is meant: what it can read and what crashes it depends on its version."""

from __future__ import annotations

import re
from typing import NamedTuple

from tenantry_schema.errors import InvalidConfig

_TEXT = re.compile(r"(?:PgBouncer )?(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?(?:/bouncer)?\Z")


class Version(NamedTuple):
    """A version of PgBouncer."""

    major: int
    minor: int
    patch: int = 0

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


OLDEST = Version(1, 18)
#: The first version that is not known.
BEYOND = Version(1, 27)

#: Prepared statements survive transaction pooling, DEALLOCATE ALL among them.
KEEPS_PREPARED = Version(1, 22)
#: A forced user may be added to an entry by RELOAD: every older version may crash.
TAKES_FORCED_USER = Version(1, 23, 1)
#: HBA knows the address ``all``.
HBA_ALL = Version(1, 23)
#: ``search_path`` may be tracked: CVE-2025-12819 is mended.
TRACKS_SEARCH_PATH = Version(1, 25, 1)
#: A startup packet's ``options`` are read one by one, and an empty one hangs it (CVE-2026-107349).
READS_OPTIONS = Version(1, 20)
SURVIVES_OPTIONS = Version(1, 26, 1)
#: A key of the configuration file may stand in single quotes.
QUOTED_KEYS = Version(1, 25)


def parse_version(text: str) -> Version:
    """Read a version as ``SHOW VERSION``, ``server_version`` or a person gives it.

    :raises InvalidConfig: when it is no version, or none that is known
    """
    found = _TEXT.match(text.strip())
    if found is None:
        raise InvalidConfig(f"{text!r:.60} is no version of PgBouncer: expected one like 1.18.0")
    version = Version(int(found[1]), int(found[2]), int(found[3] or 0))
    if not OLDEST <= version < BEYOND:
        raise InvalidConfig(
            f"PgBouncer {version} is not known: {OLDEST.major}.{OLDEST.minor} to "
            f"{BEYOND.major}.{BEYOND.minor - 1} are. Nothing is rendered or changed for a version "
            "whose keys and defects were not read; upgrade tenantry, or run a version that is known"
        )
    return version
