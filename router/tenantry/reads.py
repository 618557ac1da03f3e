"""What a caller says about the age of what it reads.

``None`` and :class:`Fresh` mean the primary. Policies that accept age are not known to this version
and are refused by name, so that no read is ever served by a guess.
"""

from __future__ import annotations

from dataclasses import dataclass

from tenantry.errors import UnsupportedRead


@dataclass(frozen=True, slots=True)
class Fresh:
    """Read from the primary: the default."""


def check_read(read: object) -> None:
    """Refuse every read policy but the default.

    :raises UnsupportedRead: for anything but None and :class:`Fresh`
    """
    if read is None or isinstance(read, Fresh):
        return
    raise UnsupportedRead(
        f"read={type(read).__name__} is not supported by this version: only Fresh() (the primary) "
        "is; leave the argument out"
    )
