"""Who may come from where, as PgBouncer's HBA file: written, and checked line by line. Pure.

A line that PgBouncer does not understand is skipped with a warning in its log, so that somebody is
locked out, or falls through to a later line; what matches no line is rejected.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from tenantry_ops.bouncer.versions import HBA_ALL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tenantry_ops.bouncer.versions import Version

_TOKEN = re.compile(r'"(?:[^"]|"")*"|[^\s,#"][^\s,#"]*|,')
_TYPES = frozenset({"local", "host", "hostssl", "hostnossl"})
_METHODS = {
    **dict.fromkeys(("trust", "reject", "md5", "password", "peer", "cert", "scram-sha-256"), 0),
    "ldap": 25,
}
_UNSUPPORTED = frozenset({"samerole", "samegroup", "replication"})


def render_hba(
    *,
    console: str,
    databases: Sequence[str],
    users: Sequence[str],
    clients: Sequence[str],
    tls: str,
) -> str:
    """Write the rules: the console from this machine, routed work from the clients' networks.

    :param console: the user of the console
    :param tls: how clients may connect: ``disable``, ``require``, ``verify-full``
    """
    listed = f"{_names(databases)} {_names(users)}"
    far = "host" if tls == "disable" else "hostssl"
    lines = [
        "# Written by tenantry: who matches no line is rejected.",
        f"local {_names(['pgbouncer'])} {_names([console])} scram-sha-256",
        *(
            f"host {_names(['pgbouncer'])} {_names([console])} {it} scram-sha-256"
            for it in ("127.0.0.1/32", "::1/128")
        ),
        f"local {listed} scram-sha-256",
        *(f"{_rule(it, far)} {listed} {it} scram-sha-256" for it in clients),
    ]
    return "\n".join(lines) + "\n"


def hba_problems(text: str, version: Version) -> Iterator[tuple[int, str]]:
    """Yield (line number, problem) of every line that PgBouncer would skip, or that lets all in."""
    for number, line in enumerate(text.split("\n"), start=1):
        code = line.split("#", 1)[0] if '"' not in line else line
        tokens = _TOKEN.findall(code)
        if tokens and not code.lstrip().startswith("#"):
            problem = _problem(_fields(tokens), version)
            if problem is not None:
                yield number, problem


def _rule(network: str, far: str) -> str:
    # A connection that does not leave the machine needs no TLS.
    return "host" if ipaddress.ip_network(network).is_loopback else far


def _names(names: Sequence[str]) -> str:
    # In quotes: a shard may be called `all`.
    return ",".join('"' + name.replace('"', '""') + '"' for name in names)


def _fields(tokens: list[str]) -> list[list[str]]:
    fields: list[list[str]] = []
    joined = False
    for word in tokens:
        if word == ",":
            joined = True
        elif joined and fields:
            fields[-1].append(word)
            joined = False
        else:
            fields.append([word])
    return fields


def _problem(fields: list[list[str]], version: Version) -> str | None:
    kind = fields[0][0]
    if kind not in _TYPES:
        return f"{kind[:40]!r} is none of {', '.join(sorted(_TYPES))}"
    least = 4 if kind == "local" else 5
    if len(fields) < least:
        return "has too few fields"
    if any(it.startswith("+") for it in (*fields[1], *fields[2])):
        return "names a group, which PgBouncer does not know"
    if _UNSUPPORTED & set(fields[1]):
        return "names a kind of database that PgBouncer does not know"
    if kind == "local":
        return _method_problem(fields[3:], version)
    address = fields[3][0]
    # A mask may stand apart.
    method = 4 if "/" in address or address == "all" else 5
    return _address_problem(address, version) or _method_problem(fields[method:], version)


def _address_problem(address: str, version: Version) -> str | None:
    if address == "all":
        return None if version >= HBA_ALL else "the address 'all' is known from 1.23 on: 0.0.0.0/0"
    try:
        ipaddress.ip_network(address)
    except ValueError:
        return f"{address[:60]!r} is no network address (names of hosts are not understood)"
    return None


def _method_problem(rest: list[list[str]], version: Version) -> str | None:
    if not rest:
        return "has no method"
    method = rest[0][0]
    if _METHODS.get(method, 99) > version.minor:
        return f"method {method[:40]!r} is not known to PgBouncer {version}"
    if method == "trust":
        return "lets everybody in without a password"
    if len(rest) > 1 and method not in {"ldap", "cert", "peer"}:
        return "has options behind its method, which PgBouncer does not know"
    return None
