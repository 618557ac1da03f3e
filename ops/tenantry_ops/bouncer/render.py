"""The files of a PgBouncer, from facts and settings: pure.

One entry for each shard leads to its primary, and one for each node, by the node's name, to that
node: declared-stale reads use the names of nodes, which a switchover does not change. Buckets are
no entries: a pool for each would multiply the connections that a server must have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantry_ops.bouncer.connstr import render_pairs
from tenantry_ops.bouncer.hba import render_hba
from tenantry_ops.bouncer.ini import DATABASES, MAIN, Ini, render_ini
from tenantry_ops.bouncer.sizing import Sizes, size
from tenantry_ops.bouncer.userlist import render_userlist
from tenantry_ops.bouncer.versions import (
    KEEPS_PREPARED,
    READS_OPTIONS,
    SURVIVES_OPTIONS,
    Version,
)
from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tenantry_ops.bouncer.nodes import Facts, NodeFacts
    from tenantry_ops.bouncer.settings import BouncerSettings

INI = "pgbouncer.ini"
USERLIST = "userlist.txt"
HBA = "pgbouncer_hba.conf"
#: The console's password, as libpq wants it.
PASSFILE = "console.passfile"
#: What was written last, to tell what was changed by hand since.
WRITTEN = ".tenantry-written.json"

#: Who asks servers for verifiers, and who uses the console; the latter is no role of Postgres.
AUTH_ROLE = "tenantry_bouncer"
CONSOLE_USER = "tenantry_console"

AUTH_QUERY = "SELECT name, secret FROM tenantry_bouncer.login($1)"

# A primary that comes back as a replica, or was closed, must not answer as the primary: PgBouncer
# connects to whatever is at the address, ignores an error of this query, and gives up when the
# session ends. It runs before PgBouncer sets again what it has kept for a client, which from 1.26
# on would open a closed primary.
ONLY_PRIMARY = (
    "SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid()) "
    "WHERE pg_catalog.current_setting('transaction_read_only') = 'on'"
)

HEAD = (
    "Written by tenantry from the catalog. Settings are in tenantry.toml; what is changed here by",
    "hand is shown by `tenantry bouncer diff`, and kept by `apply` only when it is told to.",
)


@dataclass(frozen=True, slots=True)
class Rendering:
    """The files as they should be.

    :ivar userlist: users and secrets
    :ivar owned: users of whom an existing file keeps nothing; of all others it keeps its own
    """

    version: Version
    ini: Ini
    hba: str
    userlist: dict[str, str]
    owned: frozenset[str]
    sizes: Sizes

    def texts(self) -> dict[str, str]:
        """Return file name -> text."""
        return {
            HBA: self.hba,
            USERLIST: render_userlist(self.userlist),
            INI: render_ini(self.ini, head=HEAD),
        }


def render(
    facts: Facts,
    settings: BouncerSettings,
    *,
    version: Version,
    directory: Path,
    secrets: Mapping[str, str],
) -> Rendering:
    """Decide what all files should say.

    :param directory: where they will lie
    :param secrets: user -> secret for ``userlist.txt``
    :raises InvalidConfig: when entries or sizes cannot be
    """
    sizes = size(facts.nodes, settings, facts.routers)
    entries = _entries(facts.nodes, sizes, settings)
    tls = _client_tls(settings)
    main = {**_main(settings, sizes, version, directory), **_tls(settings, tls), **settings.extra}
    hba = render_hba(
        console=CONSOLE_USER,
        # A switchover changes the order of the entries, and not these lines.
        databases=sorted(entries),
        users=settings.users,
        clients=settings.clients,
        tls=tls,
    )
    ini = Ini.of({MAIN: main, DATABASES: entries})
    owned = frozenset({*settings.users, AUTH_ROLE, CONSOLE_USER})
    return Rendering(version, ini, hba, dict(secrets), owned, sizes)


def _entries(
    nodes: tuple[NodeFacts, ...], sizes: Sizes, settings: BouncerSettings
) -> dict[str, str]:
    wanted = [
        (name, node, guard)
        for node in nodes
        for name, guard in ((node.shard, True), (node.name, False))
        if node.primary or not guard
    ]
    # In each entry: the console would ask for strangers' verifiers, too, and 1.18 waits for ever.
    asking = {"auth_user": AUTH_ROLE} if settings.auth == "query" else {}
    entries: dict[str, str] = {}
    for name, node, guard in wanted:
        if name in entries or name == MAIN:
            raise InvalidConfig(
                f"two entries would be named {name!r}, or one like PgBouncer's own console: rename "
                "the node or the shard in the catalog"
            )
        more = {"connect_query": ONLY_PRIMARY} if guard else {}
        entries[name] = _entry(node, sizes.caps[node.name, guard], {**asking, **more})
    return entries


def _entry(node: NodeFacts, cap: int, more: Mapping[str, str]) -> str:
    if "," in node.host:
        raise InvalidConfig(
            f"node {node.name}: PgBouncer takes turns among the hosts of a list, so an entry names "
            f"one, not {node.host!r:.80}"
        )
    pairs: dict[str, str | int] = {
        "host": node.host,
        "port": node.port,
        "dbname": node.dbname,
        "pool_size": cap,
        "max_db_connections": cap,
        **more,
    }
    return render_pairs(pairs)


def _main(
    settings: BouncerSettings, sizes: Sizes, version: Version, directory: Path
) -> dict[str, str]:
    made = {
        "listen_addr": settings.listen_addr,
        "listen_port": str(settings.listen_port),
        "unix_socket_dir": settings.unix_socket_dir,
        "logfile": settings.logfile,
        "pidfile": settings.pidfile,
        "admin_users": CONSOLE_USER,
        "auth_type": "hba",
        "auth_hba_file": str(directory / HBA),
        "auth_file": str(directory / USERLIST),
        "pool_mode": "transaction",
        "max_client_conn": str(sizes.clients),
        # Pools keep to their entry's cap; nothing beyond it is held in reserve.
        "reserve_pool_size": "0",
        "query_wait_timeout": str(settings.query_wait_timeout),
        # After a switchover the first attempt may come too early: the default waits 15 s.
        "server_login_retry": "1",
        "server_connect_timeout": "5",
        "tcp_keepalive": "1",
        "tcp_keepidle": "10",
        "tcp_keepintvl": "5",
        "tcp_keepcnt": "3",
        "tcp_user_timeout": "20000",
    }
    if not READS_OPTIONS <= version < SURVIVES_OPTIONS:
        # In between, a name here lets strangers hang PgBouncer.
        made["ignore_startup_parameters"] = "extra_float_digits"
    if settings.auth == "query":
        made["auth_query"] = AUTH_QUERY
    if version.minor >= KEEPS_PREPARED.minor:
        made["max_prepared_statements"] = "200"
    elif version.minor == KEEPS_PREPARED.minor - 1:
        # 1.21 keeps them, but loses its count when a client deallocates all.
        made["max_prepared_statements"] = "0"
    return made


def _client_tls(settings: BouncerSettings) -> str:
    if settings.client_tls_cert is None:
        return "disable"
    return "require" if settings.client_tls_ca is None else "verify-ca"


def _tls(settings: BouncerSettings, client: str) -> dict[str, str]:
    made = {
        "client_tls_sslmode": client,
        "client_tls_cert_file": settings.client_tls_cert,
        "client_tls_key_file": settings.client_tls_key,
        "client_tls_ca_file": settings.client_tls_ca,
        "server_tls_ca_file": settings.server_tls_ca,
        "server_tls_sslmode": "prefer" if settings.server_tls_ca is None else "verify-full",
    }
    return {key: value for key, value in made.items() if value is not None}
