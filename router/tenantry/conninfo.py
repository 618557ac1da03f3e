"""Connection strings of nodes, made from the catalog's: pure.

The router's own conninfo says who connects and how (user, passfile, service, TLS); the map says
where. Hosts of one shard become one multi-host string, and libpq asks Postgres which of them takes
writes (``target_session_attrs``, libpq documentation 32.1.1.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tenantry.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tenantry.map import Node

_PLACE = frozenset({"host", "hostaddr", "port", "dbname", "target_session_attrs", "service"})

# Half-open connections are found by the kernel where the deadline does not find them first.
_LIVENESS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


def parse(conninfo: str, what: str = "the catalog's conninfo") -> dict[str, Any]:
    """Parse a conninfo or a connection URI.

    :param what: what it is, for messages
    :raises InvalidConfig: when libpq cannot read it; the message never shows the string, which may
        hold a password
    """
    if not isinstance(conninfo, str):
        raise InvalidConfig(f"{what} must be a str, not {type(conninfo).__name__}")
    if "\0" in conninfo:
        raise InvalidConfig(f"{what} contains a NUL character")
    try:
        return dict(conninfo_to_dict(conninfo))
    except psycopg.ProgrammingError:
        # psycopg quotes the malformed part, which may be the tail of a password.
        raise InvalidConfig(
            f"{what} is not readable by libpq: expected 'host=… dbname=…' or "
            "'postgresql://…' with special characters percent-encoded"
        ) from None


def who(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return who connects and how, without where to."""
    return {name: value for name, value in given.items() if name not in _PLACE}


def catalog_conninfo(given: Mapping[str, Any], application: str) -> str:
    """Return the conninfo of the catalog with liveness settings that were not given."""
    return make_conninfo(
        **{
            **_LIVENESS,
            "target_session_attrs": "read-write",
            **given,
            "application_name": application,
        }
    )


def primary_conninfo(given: Mapping[str, Any], nodes: Sequence[Node], application: str) -> str:
    """Return the conninfo that reaches whichever of the nodes takes writes.

    :raises InvalidConfig: when the nodes do not share one database name
    """
    databases = {node.dbname for node in nodes}
    if len(databases) != 1:
        raise InvalidConfig(
            f"nodes {', '.join(node.name for node in nodes) or '(none)'} of one shard must share "
            f"one database, but have {sorted(databases)}: mend tenantry.nodes in the catalog"
        )
    return make_conninfo(
        **{
            **_LIVENESS,
            **who(given),
            "host": ",".join(node.host for node in nodes),
            "port": ",".join(str(node.port) for node in nodes),
            "dbname": databases.pop(),
            "target_session_attrs": "read-write",
            "application_name": application,
        }
    )


def node_conninfo(given: Mapping[str, Any], node: Node, application: str) -> str:
    """Return the conninfo that reaches one node, whatever its role is now."""
    return make_conninfo(
        **{
            **_LIVENESS,
            **who(given),
            "host": node.host,
            "port": node.port,
            "dbname": node.dbname,
            "target_session_attrs": "any",
            "application_name": application,
        }
    )


def parse_pooler(conninfo: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Parse where a pooler is, and check that one can be used by who connects.

    :param given: who connects, and how: the parsed conninfo of the catalog
    :raises InvalidConfig: for what the router decides itself, or PgBouncer would drop
    """
    pooler = parse(conninfo, "pooler=")
    decided = sorted({"dbname", "target_session_attrs", "password"} & pooler.keys())
    if decided:
        raise InvalidConfig(
            f"pooler= says where a PgBouncer is, and not {', '.join(decided)}: the database is the "
            "shard's name, and passwords are in PGPASSFILE"
        )
    if "options" in {**given, **pooler}:
        raise InvalidConfig(
            "options= of a conninfo does not reach a server through PgBouncer: take it away, and "
            "set what it sets with ALTER ROLE … SET"
        )
    return pooler


def pooled_conninfo(
    given: Mapping[str, Any], pooler: Mapping[str, Any], entry: str, application: str
) -> str:
    """Return the conninfo that reaches an entry of a PgBouncer.

    Which server the entry leads to is PgBouncer's to know: what it tells libpq of a server may be
    of the one before. Channel binding ends at PgBouncer, too.

    :param entry: the name of a shard, for its primary, or of a node
    """
    unbound = {name: value for name, value in who(given).items() if name != "channel_binding"}
    return make_conninfo(
        **{
            **_LIVENESS,
            **unbound,
            **pooler,
            "dbname": entry,
            "target_session_attrs": "any",
            "application_name": application,
        }
    )


def shown(given: Mapping[str, Any]) -> str:
    """Return host, port and database for messages: never a user's secret."""
    host, port = given.get("host") or "(default host)", given.get("port") or "5432"
    return f"{host}:{port}/{given.get('dbname') or '(default database)'}"
