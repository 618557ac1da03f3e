"""Every key that PgBouncer 1.18 to 1.26 knows: data.

Read from ``src/main.c`` and ``src/loader.c`` of these versions, for 1.26 from its manual and from
what it accepts; tests compare it with ``SHOW CONFIG`` of a running one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenantry_ops.bouncer.keys import BUILT, Key, Kind

if TYPE_CHECKING:
    from tenantry_ops.bouncer.versions import Version

TEXT, INT, SECONDS = Kind.TEXT, Kind.INT, Kind.SECONDS

KEYS: tuple[Key, ...] = (
    Key("admin_users", TEXT, ""),
    Key("application_name_add_host", INT, "0"),
    Key("auth_dbname", TEXT, None, since=19),
    Key("auth_file", TEXT, None),
    Key("auth_hba_file", TEXT, ""),
    Key("auth_ident_file", TEXT, None, since=23),
    Key("auth_ldap_options", TEXT, None, since=25),
    Key("auth_query", TEXT, BUILT),
    Key("auth_type", Kind.AUTH, "md5"),
    Key("auth_user", TEXT, None),
    Key("autodb_idle_timeout", SECONDS, "3600"),
    Key("cancel_wait_timeout", SECONDS, "10", since=19),
    Key("client_idle_timeout", SECONDS, "0"),
    Key("client_login_timeout", SECONDS, "60"),
    Key("client_tls13_ciphers", TEXT, None, since=25),
    Key("client_tls_ca_file", TEXT, ""),
    Key("client_tls_cert_file", TEXT, ""),
    Key("client_tls_ciphers", TEXT, "fast", then=(21, "default")),
    Key("client_tls_dheparams", TEXT, "auto"),
    Key("client_tls_ecdhcurve", TEXT, "auto"),
    Key("client_tls_key_file", TEXT, ""),
    Key("client_tls_protocols", TEXT, "secure"),
    Key("client_tls_sslmode", Kind.TLS, "disable"),
    Key("default_pool_size", INT, "20"),
    Key("disable_pqexec", INT, "0", reload=False),
    Key("dns_max_ttl", SECONDS, "15"),
    Key("dns_nxdomain_ttl", SECONDS, "15"),
    Key("dns_zone_check_period", SECONDS, "0"),
    Key("idle_transaction_timeout", SECONDS, "0"),
    Key("ignore_startup_parameters", TEXT, ""),
    Key("job_name", TEXT, "pgbouncer", reload=False),
    Key("listen_addr", TEXT, "", reload=False),
    Key("listen_backlog", INT, "128", reload=False),
    Key("listen_port", INT, "6432", reload=False),
    Key("log_connections", INT, "1"),
    Key("log_disconnections", INT, "1"),
    Key("log_pooler_errors", INT, "1"),
    Key("log_stats", INT, "1"),
    Key("logfile", TEXT, ""),
    Key("login_notify_message", TEXT, "", since=26),
    Key("max_client_conn", INT, "100"),
    Key("max_db_client_connections", INT, "0", since=24),
    Key("max_db_connections", INT, "0"),
    Key("max_packet_size", INT, "2147483647"),
    Key("max_prepared_statements", INT, "0", since=21, then=(24, "200")),
    Key("max_user_client_connections", INT, "0", since=24),
    Key("max_user_connections", INT, "0"),
    Key("min_pool_size", INT, "0"),
    Key("peer_id", INT, "0", since=19),
    Key("pidfile", TEXT, "", reload=False),
    Key("pkt_buf", INT, "4096", reload=False),
    Key("pool_idle_timeout", SECONDS, "0", since=26),
    Key("pool_mode", Kind.MODE, "session"),
    Key("query_timeout", SECONDS, "0"),
    Key("query_wait_notify", INT, "5", since=25),
    Key("query_wait_timeout", SECONDS, "120"),
    Key("reserve_pool_size", INT, "0"),
    Key("reserve_pool_timeout", SECONDS, "5"),
    Key("resolv_conf", TEXT, "", reload=False),
    Key("sbuf_loopcnt", INT, "5"),
    Key("scram_iterations", INT, "4096", since=25),
    Key("server_check_delay", SECONDS, "30"),
    Key("server_check_query", TEXT, "select 1", then=(25, "<empty>")),
    Key("server_connect_timeout", SECONDS, "15"),
    Key("server_fast_close", INT, "0"),
    Key("server_idle_timeout", SECONDS, "600"),
    Key("server_lifetime", SECONDS, "3600"),
    Key("server_login_retry", SECONDS, "15"),
    Key("server_reset_query", TEXT, "DISCARD ALL"),
    Key("server_reset_query_always", INT, "0"),
    Key("server_round_robin", INT, "0"),
    Key("server_tls13_ciphers", TEXT, None, since=25),
    Key("server_tls_ca_file", TEXT, ""),
    Key("server_tls_cert_file", TEXT, ""),
    Key("server_tls_ciphers", TEXT, "fast", then=(21, "default")),
    Key("server_tls_key_file", TEXT, ""),
    Key("server_tls_protocols", TEXT, "secure"),
    Key("server_tls_sslmode", Kind.TLS, "disable", then=(20, "prefer")),
    Key("so_reuseport", INT, "0", reload=False),
    Key("stats_period", INT, "60"),
    Key("stats_users", TEXT, ""),
    Key("suspend_timeout", SECONDS, "10", until=26),
    Key("syslog", INT, "0"),
    Key("syslog_facility", TEXT, "daemon"),
    Key("syslog_ident", TEXT, "pgbouncer"),
    Key("tcp_defer_accept", INT, BUILT),
    Key("tcp_keepalive", INT, "1"),
    Key("tcp_keepcnt", INT, "0"),
    Key("tcp_keepidle", INT, "0"),
    Key("tcp_keepintvl", INT, "0"),
    Key("tcp_socket_buffer", INT, "0"),
    Key("tcp_user_timeout", INT, "0"),
    Key("track_extra_parameters", TEXT, "IntervalStyle", since=20, then=(26, ""), reload=False),
    Key("transaction_timeout", SECONDS, "0", since=25),
    Key("unix_socket_dir", TEXT, BUILT, reload=False),
    Key("unix_socket_group", TEXT, "", reload=False),
    Key("unix_socket_mode", INT, "0777", reload=False),
    Key("user", TEXT, None, reload=False),
    Key("verbose", INT, None),
)

#: What an entry of ``[databases]`` may say, and the minor version of 1.x that first knew it.
ENTRY_KEYS: dict[str, int] = {
    "application_name": 0,
    "auth_dbname": 19,
    "auth_query": 22,
    "auth_user": 0,
    "client_encoding": 0,
    "connect_query": 0,
    "datestyle": 0,
    "dbname": 0,
    "host": 0,
    "load_balance_hosts": 24,
    "max_db_client_connections": 24,
    "max_db_connections": 0,
    "min_pool_size": 0,
    "password": 0,
    "pool_mode": 0,
    "pool_size": 0,
    "port": 0,
    "query_wait_timeout": 26,
    "reserve_pool": 0,
    "reserve_pool_size": 24,
    "server_lifetime": 23,
    "timezone": 0,
    "user": 0,
}

#: The same for ``[users]``.
USER_KEYS: dict[str, int] = {
    "client_idle_timeout": 24,
    "idle_transaction_timeout": 24,
    "max_user_client_connections": 24,
    "max_user_connections": 0,
    "pool_mode": 0,
    "pool_size": 23,
    "query_timeout": 24,
    "query_wait_timeout": 26,
    "reserve_pool_size": 24,
    "transaction_timeout": 25,
}

#: The same for ``[peers]``.
PEER_KEYS: dict[str, int] = {"host": 19, "pool_size": 19, "port": 19}

#: Numbers in entries, which PgBouncer reads with ``atoi``: what is no number counts as 0.
NUMBERS = frozenset(
    name
    for name in (*ENTRY_KEYS, *USER_KEYS, *PEER_KEYS)
    if name.startswith(("max_", "min_", "pool_size", "port", "reserve_"))
    or name.endswith(("_timeout", "_lifetime"))
)

SECTIONS: dict[str, int] = {"pgbouncer": 0, "databases": 0, "users": 0, "peers": 19}


def keys_of(version: Version) -> dict[str, Key]:
    """Return the keys that a version knows, by name."""
    return {key.name: key for key in KEYS if key.known_to(version)}
