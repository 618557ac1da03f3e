"""How PgBouncer learns who may log in: a function on every server that it asks, or a list of ours.

The function runs with its owner's rights, because only a superuser reads verifiers; so it, its
schema and its grants are made anew in one transaction, and belong to who installs them. It tells
the verifier of one role that may log in now, never of a superuser or a replication role, and only
the role that PgBouncer asks with may call it.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from tenantry.conninfo import primary_conninfo
from tenantry_ops.bouncer.lying import read_userlist
from tenantry_ops.bouncer.render import AUTH_ROLE, CONSOLE_USER, USERLIST
from tenantry_ops.fleet.secrets import passfile_text, verifiers
from tenantry_schema.errors import InvalidConfig, ShardUnavailable
from tenantry_schema.roles import make_role
from tenantry_schema.sql import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tenantry.map import Shard
    from tenantry_schema.query import Statement

_FRAME = """
CREATE SCHEMA IF NOT EXISTS {schema};
ALTER SCHEMA {schema} OWNER TO CURRENT_USER;
REVOKE ALL ON SCHEMA {schema} FROM PUBLIC;
DROP FUNCTION IF EXISTS {login} (text);
"""
_GRANTS = """
REVOKE ALL ON FUNCTION {login} (text) FROM PUBLIC;
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT EXECUTE ON FUNCTION {login} (text) TO {role};
GRANT CONNECT ON DATABASE {database} TO {role}
"""
_VERIFIERS = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = ANY (%s)"


def auth_statements(database: str, verifier: str) -> list[Statement]:
    """Return what a superuser runs in a shard's database, in one transaction; it may be repeated.

    :param verifier: the SCRAM verifier of the role that PgBouncer asks with
    """
    role = sql.Identifier(AUTH_ROLE)
    names = {
        "schema": role,
        "login": sql.Identifier(AUTH_ROLE, "login"),
        "role": role,
        "database": sql.Identifier(database),
    }
    return [
        make_role(AUTH_ROLE),
        sql.SQL(
            "ALTER ROLE {} LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION "
            "NOBYPASSRLS PASSWORD {}"
        ).format(role, sql.Literal(verifier)),
        sql.SQL("ALTER ROLE {} SET search_path = ''").format(role),
        sql.SQL(_FRAME).format(**names),
        sql.SQL(load("bouncer_login")),
        sql.SQL(_GRANTS).format(**names),
    ]


def auth_scripts(
    shards: Sequence[Shard], given: Mapping[str, Any], password: str
) -> Iterator[tuple[str, str]]:
    """Yield each shard's name and the SQL that a superuser runs there; no password is in it.

    :param given: the parsed conninfo of whoever may connect
    """
    for shard in shards:
        with primary_connection(shard, given) as conn:
            statements = _statements(conn, password)
            body = ";\n".join(it.as_string(conn) for it in statements)
            yield shard.name, f"BEGIN;\n{body};\nCOMMIT;\n"


def install_auth(shards: Sequence[Shard], given: Mapping[str, Any], password: str) -> None:
    """Make the role and the function on every shard's primary; replicas have them from there.

    :param given: the parsed conninfo of a superuser
    :param password: of the role that PgBouncer asks with; servers get its verifier only
    :raises ShardUnavailable: naming the shard that cannot be reached
    """
    for shard in shards:
        with primary_connection(shard, given) as conn:
            for statement in _statements(conn, password):
                conn.execute(statement)


def auth_password(directory: Path) -> str:
    """Return the password of the role that PgBouncer asks with.

    :raises InvalidConfig: when none was made yet
    """
    held = read_userlist(directory)
    if AUTH_ROLE not in held:
        raise InvalidConfig(
            f"{directory / USERLIST} has no user {AUTH_ROLE}: write the files first, with "
            "`tenantry bouncer render`"
        )
    return held[AUTH_ROLE]


def shared_verifiers(
    shards: Sequence[Shard], given: Mapping[str, Any], users: Sequence[str]
) -> dict[str, str]:
    """Return the verifiers of users for ``userlist.txt``; all shards must have the same.

    :param given: the parsed conninfo of a superuser
    :raises InvalidConfig: naming the users whose verifiers differ or are missing
    """
    found: dict[str, set[str | None]] = {user: set() for user in users}
    for shard in shards:
        with primary_connection(shard, given) as conn:
            told: dict[str, str | None] = dict(conn.execute(_VERIFIERS, (list(users),)).fetchall())
        for user in users:
            found[user].add(told.get(user))
    odd = sorted(user for user, secret in found.items() if len(secret) > 1 or None in secret)
    if odd:
        raise InvalidConfig(
            f"users {', '.join(odd)} have no verifier, or not the same one on every shard, and "
            "userlist.txt holds one for all: copy it with ALTER ROLE … PASSWORD 'SCRAM-SHA-256$…', "
            'or use auth = "query", which asks each server for its own'
        )
    return {user: str(next(iter(secret))) for user, secret in found.items()}


def primary_connection(
    shard: Shard, given: Mapping[str, Any]
) -> psycopg.Connection[tuple[Any, ...]]:
    """Connect to a shard's primary directly.

    :raises ShardUnavailable: when that cannot be
    """
    try:
        return psycopg.connect(primary_conninfo(given, shard.nodes, "tenantry-bouncer"))
    except psycopg.OperationalError as error:
        raise ShardUnavailable(
            f"the primary of shard {shard.name!r} cannot be reached as {given.get('user')!r} "
            f"({(str(error).splitlines() or ['no reason was given'])[0]})"
        ) from error


def completed_secrets(
    held: Mapping[str, str], conn: psycopg.Connection[Any], *, passfile_there: bool
) -> tuple[dict[str, str], bytes | None]:
    """Return the secrets of PgBouncer's own two users, and the console's password file if new.

    PgBouncer logs in at servers with the one, so it must know the password; of the console's user,
    who logs in at PgBouncer only, it keeps a verifier.

    :param conn: any connection, for libpq to make a verifier
    """
    made = {AUTH_ROLE: held.get(AUTH_ROLE) or secrets.token_urlsafe(32)}
    if CONSOLE_USER in held and passfile_there:
        return {**made, CONSOLE_USER: held[CONSOLE_USER]}, None
    password = {CONSOLE_USER: secrets.token_urlsafe(32)}
    return {**made, **verifiers(conn, password)}, passfile_text(password).encode()


def _statements(conn: psycopg.Connection[Any], password: str) -> list[Statement]:
    verifier = verifiers(conn, {AUTH_ROLE: password})[AUTH_ROLE]
    return auth_statements(conn.info.dbname, verifier)
