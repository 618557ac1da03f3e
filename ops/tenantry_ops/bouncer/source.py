"""Where the facts of a rendering come from, and which PgBouncer it is for."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from tenantry.conninfo import parse, primary_conninfo
from tenantry_ops.bouncer.auth import completed_secrets, shared_verifiers
from tenantry_ops.bouncer.facts import gather
from tenantry_ops.bouncer.lying import read_userlist
from tenantry_ops.bouncer.pooler import Pooler
from tenantry_ops.bouncer.render import INI, PASSFILE, Rendering, render
from tenantry_ops.bouncer.versions import Version, parse_version
from tenantry_ops.cluster import read_places
from tenantry_schema.errors import BouncerError, InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tenantry.map import Shard
    from tenantry_ops.bouncer.settings import BouncerSettings

_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin")


@dataclass(frozen=True, slots=True)
class Source:
    """The fleet behind a PgBouncer.

    :ivar given: who connects to its servers directly, and how
    :ivar catalog: conninfo of its catalog, or None when it has none yet
    :ivar superuser: likewise, for what only a superuser may do
    """

    shards: Sequence[Shard]
    given: Mapping[str, Any]
    catalog: str | None = None
    superuser: Mapping[str, Any] | None = None


def catalog_source(catalog: str, superuser: str | None = None) -> Source:
    """Return the fleet of a catalog.

    :param superuser: name of the servers' superuser, whose password libpq finds
    """
    given = parse(catalog)
    named = None if superuser is None else {**given, "user": superuser, "password": None}
    shards = tuple(it for it in read_places(catalog).map.shards.values() if it.nodes)
    return Source(shards, given, catalog, named)


def want(
    source: Source, settings: BouncerSettings, *, version: Version, directory: Path
) -> tuple[Rendering, bytes | None]:
    """Decide what the files of a folder should say; return that, and the console's password file.

    The latter is None when there is one already.
    """
    facts = gather(source.shards, source.given, settings.users, source.catalog)
    with psycopg.connect(
        primary_conninfo(source.given, source.shards[0].nodes, "tenantry-bouncer")
    ) as conn:
        own, passfile = completed_secrets(
            read_userlist(directory), conn, passfile_there=(directory / PASSFILE).exists()
        )
    secrets = own
    if settings.auth == "userlist":
        if source.superuser is None:
            raise InvalidConfig(
                'auth = "userlist" needs --superuser NAME, because only a superuser reads verifiers'
            )
        secrets = {**own, **shared_verifiers(source.shards, source.superuser, settings.users)}
    rendering = render(facts, settings, version=version, directory=directory, secrets=secrets)
    return rendering, passfile


def target_version(settings: BouncerSettings, directory: Path | None) -> Version:
    """Find out for which PgBouncer to render: as set, else as it runs, else as it is installed.

    :raises InvalidConfig: when it is not known, or there is none
    """
    if settings.version is not None:
        return parse_version(settings.version)
    if directory is not None and (directory / INI).exists():
        try:
            with Pooler.at(directory).open() as console:
                return console.version
        except BouncerError:
            # It does not run; what is installed will.
            return installed_version(find_program())
    return installed_version(find_program())


def find_program(given: str | os.PathLike[str] | None = None) -> str:
    """Return the path of the program.

    :param given: the path that must be used; default ``TENANTRY_PGBOUNCER``, then what is found
    :raises InvalidConfig: when there is none
    """
    named = given or os.environ.get("TENANTRY_PGBOUNCER")
    path = os.pathsep.join([os.environ.get("PATH", ""), *_FOLDERS])
    found = shutil.which(named or "pgbouncer", path=path)
    if found is None:
        raise InvalidConfig(
            f"there is no program {os.fspath(named or 'pgbouncer')!r}: install PgBouncer, set "
            "TENANTRY_PGBOUNCER, or say which version is meant with --set version=1.18.0"
        )
    return found


def installed_version(program: str) -> Version:
    """Ask a program for its version."""
    told = subprocess.run(  # noqa: S603  the program that was found
        [program, "--version"], capture_output=True, text=True, check=False
    )
    return parse_version((told.stdout.splitlines() or [""])[0])
