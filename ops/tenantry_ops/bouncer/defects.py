"""What a version of PgBouncer leaves open whatever its files say, by its change log: data.

What a file can avoid is a rule (:mod:`~.rules`). Packages are patched without a new version, so
these are told and refuse nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from tenantry_ops.bouncer.versions import Version


class Defect(NamedTuple):
    """One defect.

    :ivar since: the first version that has it
    :ivar mended: the first version that has it no more
    """

    name: str
    since: Version
    mended: Version
    what: str


DEFECTS: tuple[Defect, ...] = (
    Defect("CVE-2026-6664", Version(1, 0), Version(1, 25, 2), "a stranger can crash it"),
    Defect("CVE-2026-6665", Version(1, 0), Version(1, 25, 2), "a server can overflow its stack"),
    Defect("CVE-2026-6666", Version(1, 0), Version(1, 25, 2), "a server can crash it"),
    Defect("CVE-2026-6668", Version(1, 0), Version(1, 26), "a stranger can hang it"),
    Defect("CVE-2026-6669", Version(1, 0), Version(1, 26), "a server can keep it busy for ever"),
    Defect("CVE-2026-19888", Version(1, 11), Version(1, 26), "a stranger can crash it"),
    Defect(
        "CVE-2026-107350",
        Version(1, 17),
        Version(1, 26, 1),
        "who knows one password of auth_file can log in as anybody",
    ),
)


def open_defects(version: Version) -> tuple[Defect, ...]:
    """Return the defects of a version that no configuration avoids."""
    return tuple(it for it in DEFECTS if it.since <= version < it.mended)


def warning_of(version: Version) -> str | None:
    """Return what a person should know of a version, or None."""
    found = open_defects(version)
    if not found:
        return None
    latest = max(it.mended for it in found)
    listed = "; ".join(f"{it.what} ({it.name})" for it in found)
    return f"PgBouncer {version}, unless its package was patched: {listed}. Upgrade to {latest}"
