"""What PgBouncer would do as it is told, and must not: rules of a routed fleet. Pure."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

from tenantry_ops.bouncer.ini import DATABASES, MAIN
from tenantry_ops.bouncer.versions import (
    KEEPS_PREPARED,
    READS_OPTIONS,
    SURVIVES_OPTIONS,
    TRACKS_SEARCH_PATH,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tenantry_ops.bouncer.ini import Ini
    from tenantry_ops.bouncer.versions import Version

_TLS_ASKED = frozenset({"require", "verify-ca", "verify-full"})


class Problem(NamedTuple):
    """One thing that must not be put in place.

    :ivar where: the line or the key
    :ivar next: what to do
    """

    where: str
    problem: str
    next: str


class _Rule(NamedTuple):
    key: str
    broken: Callable[[Mapping[str, str], Version], bool]
    problem: str
    next: str


def broken_rules(ini: Ini, version: Version) -> Iterator[Problem]:
    """Yield the rules that a configuration breaks."""
    main = ini.section(MAIN)
    for rule in _RULES:
        if rule.broken(main, version):
            yield Problem(f"[{MAIN}] {rule.key}", rule.problem, rule.next)
    if "*" in ini.section(DATABASES):
        yield Problem(
            f"[{DATABASES}] *",
            "a name that is mistyped would lead somewhere instead of being refused",
            "name each database",
        )


def _not_zero(key: str) -> Callable[[Mapping[str, str], Version], bool]:
    return lambda main, _: main.get(key, "0") != "0"


def _listed(main: Mapping[str, str], key: str) -> set[str]:
    return {it.strip().lower() for it in main.get(key, "").split(",")}


def _hangs(main: Mapping[str, str], version: Version) -> bool:
    ignored = _listed(main, "ignore_startup_parameters") - {""}
    hit = READS_OPTIONS <= version < SURVIVES_OPTIONS
    return hit and bool(ignored) and "options" not in ignored


def _plain_from_afar(main: Mapping[str, str], _: Version) -> bool:
    addresses = [it.strip() for it in main.get("listen_addr", "").split(",")]
    asked = main.get("client_tls_sslmode", "disable").lower() in _TLS_ASKED
    return not asked and any(_is_far(it) for it in addresses if it)


def _is_far(address: str) -> bool:
    if address == "localhost":
        return False
    try:
        return not ipaddress.ip_address(address).is_loopback
    except ValueError:
        # `*`, or a name that may lead anywhere.
        return True


_RULES: tuple[_Rule, ...] = (
    _Rule(
        "pool_mode",
        lambda main, _: main.get("pool_mode", "session").lower() != "transaction",
        "is not transaction: a client would keep its server connection for as long as it lives",
        "write pool_mode = transaction",
    ),
    _Rule(
        "disable_pqexec",
        _not_zero("disable_pqexec"),
        "refuses the simple protocol, by which a routed transaction opens",
        "leave it away",
    ),
    _Rule(
        "ignore_startup_parameters",
        lambda main, _: "options" in _listed(main, "ignore_startup_parameters"),
        "holds options: what a client sets there would be dropped silently",
        "take it away, and set it with ALTER ROLE … SET",
    ),
    _Rule(
        "ignore_startup_parameters",
        _hangs,
        "lets a client that has not logged in hang PgBouncer for ever (CVE-2026-107349)",
        "leave it away, or upgrade to 1.26.1",
    ),
    _Rule(
        "track_extra_parameters",
        lambda main, version: (
            version < TRACKS_SEARCH_PATH
            and "search_path" in _listed(main, "track_extra_parameters")
        ),
        "search_path lets a client run SQL before it has logged in (CVE-2025-12819)",
        "take it away, or upgrade to 1.25.1",
    ),
    _Rule(
        "max_prepared_statements",
        lambda main, version: (
            version < KEEPS_PREPARED and main.get("max_prepared_statements", "0") != "0"
        ),
        "1.21 loses its count of prepared statements when a client deallocates all",
        "write 0, or upgrade to 1.22",
    ),
    _Rule(
        "so_reuseport",
        _not_zero("so_reuseport"),
        "lets several processes share a port, so that PAUSE reaches only one of them",
        "give each its own port",
    ),
    _Rule(
        "auth_type",
        lambda main, _: main.get("auth_type", "md5").lower() in {"any", "trust"},
        "asks nobody for a password",
        "write hba or scram-sha-256",
    ),
    _Rule(
        "auth_query",
        lambda main, _: "$1" not in main.get("auth_query", "$1"),
        "does not ask for the user, which is $1",
        "name $1",
    ),
    _Rule(
        "listen_addr",
        _plain_from_afar,
        "is reached from other machines, and clients need no TLS",
        "give client_tls_cert and client_tls_key, or listen on this machine only",
    ),
)
