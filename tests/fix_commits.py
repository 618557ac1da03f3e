"""What may happen to a COMMIT: it waits for a standby that never comes, or the network is cut."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest
from proxy import proxied

from tenantry import OutcomeUnknown
from tenantry.conninfo import parse

# A standby that does not exist: COMMIT waits until it is cancelled.
NOBODY = "ALTER SYSTEM SET synchronous_standby_names = 'nobody'"
NAMED = "SELECT 1 WHERE current_setting('synchronous_standby_names') = '{}'"
WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid <> pg_backend_pid()"
)


@pytest.fixture
def hanging(laid_out, router, tenant):
    """The tenant's primary, where every COMMIT waits for a standby that never comes."""
    shard = router.map.shards[router.where(tenant=tenant).shard].name
    server = next(it for it in laid_out.shards if it.name == shard).primary
    with psycopg.connect(laid_out.superuser_conninfo(server), autocommit=True) as conn:
        try:
            conn.execute(NOBODY)
            conn.execute("SELECT pg_reload_conf()")
            until_row(conn, NAMED.format("nobody"))
            until_in_force(conn, laid_out.superuser_conninfo(server))
            yield conn
        finally:
            forget_nobody(conn)


def until_in_force(conn, conninfo):
    """Commit until a COMMIT waits: the checkpointer tells the others of it, in its own time."""
    for _ in range(600):
        with closing(psycopg.connect(conninfo, autocommit=True)) as probe:
            probe.pgconn.send_query(b"SELECT pg_logical_emit_message(true, 'probe', '')")
            probe.pgconn.flush()
            for _ in range(25):
                waiting = conn.execute(WAITING).fetchone()
                if waiting is not None:
                    conn.execute("SELECT pg_terminate_backend(%s, 5000)", waiting)
                    return
                probe.pgconn.consume_input()
                if not probe.pgconn.is_busy():
                    break
                conn.execute("SELECT pg_sleep(0.02)")
    raise AssertionError("no COMMIT ever waits")


def forget_nobody(conn):
    """Let commits end without a standby again; who waits is released."""
    conn.execute("ALTER SYSTEM RESET synchronous_standby_names")
    conn.execute("SELECT pg_reload_conf()")
    until_row(conn, NAMED.format(""))
    until_row(conn, f"SELECT 1 WHERE NOT EXISTS ({WAITING})")


def until_row(conn, query):
    """Ask until there is a row; each question waits on the server, not here."""
    for _ in range(600):
        row = conn.execute(query).fetchone()
        if row is not None:
            return row[0]
        conn.execute("SELECT pg_sleep(0.02)")
    raise AssertionError(f"never true: {query}")


def unknown_when_cancelled(hanging, write):
    """Cancel what waits for its COMMIT on the server; return the one error that it ends with."""
    errors = []

    def tell():
        try:
            write()
        except OutcomeUnknown as error:
            errors.append(error)

    thread = threading.Thread(target=tell)
    thread.start()
    hanging.execute("SELECT pg_cancel_backend(%s)", (until_row(hanging, WAITING),))
    thread.join()
    (error,) = errors
    return error


@pytest.fixture
def through_a_network(laid_out, router, opened, tenant):
    """A router of either colour that reaches the tenant's shard, or a pooler, through a network."""
    catalog, pooler = laid_out.catalog_conninfo(), router.settings.pooler
    if pooler is not None:
        with proxied(int(parse(pooler)["port"])) as network:
            # Its keepalives find out: no outcome ends a session behind it (howto/pgbouncer.md).
            network.half_open = False
            with opened(catalog, pooler=f"host=127.0.0.1 port={network.port}") as routed:
                yield routed, network
        return
    shard = router.map.shards[router.where(tenant=tenant).shard]
    server = next(it for it in laid_out.shards if it.name == shard.name).primary
    with proxied(server.port) as network, opened(catalog) as routed:
        node = replace(shard.nodes[0], host="127.0.0.1", port=network.port)
        routed.map.shards[shard.id] = replace(shard, nodes=(node,))
        yield routed, network
