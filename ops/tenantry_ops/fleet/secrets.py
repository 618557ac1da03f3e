"""Passwords of a fleet: generated, kept in libpq's password file, sent as SCRAM verifiers only."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from tenantry_schema.naming import APP, OPERATOR, READ

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import psycopg

FILE = "passfile"
SUPERUSER = "postgres"
REPLICATION = "tenantry_replication"
ROLES = (SUPERUSER, REPLICATION, APP, READ, OPERATOR)


def make_passwords() -> dict[str, str]:
    """Return a new password for each role that logs in."""
    return {role: secrets.token_urlsafe(24) for role in ROLES}


def passfile_text(passwords: Mapping[str, str]) -> str:
    """Return libpq's password file for roles, wherever they connect to."""
    return "".join(f"*:*:*:{role}:{password}\n" for role, password in passwords.items())


def write_passfile(path: Path, passwords: Mapping[str, str]) -> None:
    """Write libpq's password file (libpq documentation, 32.16), readable by its owner only."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(passfile_text(passwords))


def verifiers(conn: psycopg.Connection[object], passwords: Mapping[str, str]) -> dict[str, str]:
    """Return role -> SCRAM verifier: no password ever reaches a server's log."""
    return {
        role: conn.pgconn.encrypt_password(
            password.encode(), role.encode(), b"scram-sha-256"
        ).decode()
        for role, password in passwords.items()
    }
