"""What a key of PgBouncer's configuration is: since when, of which kind, and how it changes.

``SHOW CONFIG`` says the same of a running PgBouncer; the table (:mod:`~.table`) also says it of one
that does not run, or is not there yet. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenantry_ops.bouncer.versions import Version

_INT = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)\Z")
_SECONDS = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?\Z")
_INT_BITS = 31

#: Stands for a default that depends on how PgBouncer was built, or on a patch of its package.
BUILT = "(built in)"


class Kind(StrEnum):
    """How PgBouncer reads a value (cfparser.c)."""

    TEXT = "text"
    INT = "whole number"
    SECONDS = "seconds"
    AUTH = "any, trust, plain, md5, cert, hba, ldap, pam, scram-sha-256"
    MODE = "session, transaction, statement"
    TLS = "disable, allow, prefer, require, verify-ca, verify-full"


_CHOICES = {Kind.AUTH, Kind.MODE, Kind.TLS}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the section ``[pgbouncer]``.

    :ivar default: None when there is none, so that taking the key out of the file changes nothing
        until PgBouncer is restarted
    :ivar since: the minor version of 1.x that first knew it
    :ivar until: the minor version that no longer knows it, or None
    :ivar then: the minor version from which on the default is another one, and that one
    :ivar reload: False when only a restart changes it; RELOAD then says nothing and does nothing
    """

    name: str
    kind: Kind
    default: str | None
    since: int = 0
    until: int | None = None
    then: tuple[int, str] | None = None
    reload: bool = True

    def known_to(self, version: Version) -> bool:
        """Say whether a version reads it."""
        gone = self.until is not None and version.minor >= self.until
        return self.since <= version.minor and not gone

    def default_of(self, version: Version) -> str | None:
        """Return the default of a version."""
        if self.then is not None and version.minor >= self.then[0]:
            return self.then[1]
        return self.default

    def problem(self, value: str) -> str | None:
        """Say why PgBouncer would refuse a value, or read another one than is written."""
        if self.kind is Kind.INT:
            if not _INT.match(value):
                return "is no whole number"
            return None if _fits(_number(value)) else "does not fit into 32 bits"
        if self.kind is Kind.SECONDS and not _SECONDS.match(value):
            return "is no number of seconds (units are not understood)"
        if self.kind in _CHOICES and value.lower() not in self.kind.split(", "):
            return f"is none of {self.kind}"
        return None

    def same(self, one: str | None, other: str | None) -> bool:
        """Say whether two values mean the same, such as 0777 and 511."""
        blank = "0" if self.kind is Kind.INT else ""
        one, other = one or blank, other or blank
        if self.problem(one) or self.problem(other):
            return one == other
        if self.kind is Kind.INT:
            return _number(one) == _number(other)
        if self.kind is Kind.SECONDS:
            # SHOW CONFIG prints six digits.
            return f"{float(one):g}" == f"{float(other):g}"
        if self.kind in _CHOICES:
            return one.lower() == other.lower()
        return one == other


def _number(value: str) -> int:
    digits = value.lstrip("+-")
    base = 16 if digits[:2].lower() == "0x" else 8 if digits[0] == "0" else 10
    return int(value, base)


def _fits(number: int) -> bool:
    return -(1 << _INT_BITS) <= number < 1 << _INT_BITS
