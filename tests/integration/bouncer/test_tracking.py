"""What PgBouncer keeps for its clients does not open a closed primary: real servers.

From 1.26 on it keeps ``default_transaction_read_only`` for each client, and sets it again on the
server that the client gets next.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
from fix_bouncer import connected

from tenantry_schema.naming import SHARD_DATABASE

CLOSED = "SELECT current_setting('default_transaction_read_only')"
# The second value says whether the session began before the primary was opened again.
SERVED = "SELECT current_setting('transaction_read_only'), pg_conf_load_time()"
REFUSED = "terminating connection due to administrator command"


@contextmanager
def closed(fleet):
    """Close the first shard's primary, as a switchover does with one that nobody can stop."""
    conninfo = fleet.superuser_conninfo(fleet.shards[0].primary, SHARD_DATABASE)
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        try:
            reloaded(conn, "on")
            yield conn
        finally:
            conn.execute("ALTER SYSTEM RESET default_transaction_read_only")
            reloaded(conn, "off")


def reloaded(conn, expected):
    conn.execute("SELECT pg_reload_conf()")
    while conn.execute(CLOSED).fetchone() != (expected,):
        conn.execute("SELECT pg_sleep(0.01)")


def test_a_closed_primary_is_not_opened_for_clients_of_before(own):
    """They wait, as for one that is down, and go on when it is open or another one is there."""
    with connected(own, "shard-1") as before, ThreadPoolExecutor() as pool:
        assert before.execute(SERVED).fetchone()[0] == "off"
        with closed(own.fleet) as superuser:
            with own.pooler.open() as console:
                console._run("RECONNECT")
            asked = pool.submit(lambda: before.execute(SERVED).fetchone())
            while not asked.done() and REFUSED not in own.log.read_text():
                superuser.execute("SELECT pg_sleep(0.01)")
            (moment,) = superuser.execute("SELECT clock_timestamp()").fetchone()
        read_only, loaded = asked.result()
        assert (read_only, loaded > moment) == ("off", True)
        with connected(own, "shard-1") as after:
            assert after.execute(SERVED).fetchone()[0] == "off"
