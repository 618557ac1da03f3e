"""What routing costs where the servers are elsewhere: every message takes its time on the way.

``python -m tenantry_loadtest.bench.distant_read``

Plain and routed reads go through the same forwarders, a process for each server, which keep what
they are sent for a while before they pass it on.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool

from tenantry import Router
from tenantry_loadtest.bench.paired import Way, compare
from tenantry_loadtest.bench.printing import print_table
from tenantry_loadtest.bench.routed_read import plain_way, routed_way
from tenantry_loadtest.bench.stage import Stage, stage
from tenantry_loadtest.bench.stale_read import LENIENT
from tenantry_schema.naming import CATALOG_DATABASE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

_SIZE = 65536
_MOVE = "UPDATE tenantry.nodes SET host = '127.0.0.1', port = %s WHERE name = %s"


def measure(*, delay: float, threads: int, rounds: int, calls: int) -> list[dict[str, Any]]:
    """Compare reads on the primary and on a replica.

    :param delay: seconds of each message on its way, in either direction
    """
    # More than are needed, so that no thread waits for a connection.
    pool_size = 2 * threads
    with stage(buckets=16, replicas=1) as on, _elsewhere(on, delay) as ports:
        catalog = on.fleet.catalog_conninfo()
        found: list[dict[str, Any]] = []
        with Router(catalog, pool_size=pool_size, prepared_max=4000) as router:
            for port, read in zip(ports, (None, LENIENT), strict=True):
                name = "primary" if read is None else "replica"
                plain = make_conninfo(on.app, host="127.0.0.1", port=port)
                with ConnectionPool(plain, min_size=pool_size, max_size=pool_size) as pool:
                    ways = [
                        plain_way(pool, on.rows, f"plain psycopg_pool on the {name}"),
                        routed_way(router, on.rows, f"routed, {name}", read),
                        _trip_way(pool),
                    ]
                    found += compare(ways, threads=threads, rounds=rounds, calls=calls)
    return found


def _trip_way(pool: ConnectionPool[Any]) -> Way:
    """Return one statement without a transaction: one round trip."""

    def once(_number: int) -> None:
        with pool.connection() as conn:
            conn.set_autocommit(True)
            conn.execute("SELECT 1").fetchone()
            conn.set_autocommit(False)

    return Way("one round trip", once)


@contextmanager
def _elsewhere(on: Stage, delay: float) -> Iterator[list[int]]:
    """Put the shard's servers behind forwarders; give the ports, the primary's first."""
    spawning = multiprocessing.get_context("spawn")
    running, ports = [], []
    try:
        for server in on.fleet.shards[0].servers:
            here, there = spawning.Pipe()
            process = spawning.Process(
                target=forward, args=(server.port, delay, there), daemon=True
            )
            process.start()
            running.append(process)
            ports.append(here.recv())
        superuser = on.fleet.superuser_conninfo(on.fleet.shards[0].primary, CATALOG_DATABASE)
        with psycopg.connect(superuser) as conn:
            for server, port in zip(on.fleet.shards[0].servers, ports, strict=True):
                conn.execute(_MOVE, (port, server.name))
        yield ports
    finally:
        for process in running:
            process.terminate()
            process.join()


def forward(port: int, delay: float, told: Connection) -> None:
    """Forward connections to a port of this machine, from a new one that is told."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        told.send(listener.getsockname()[1])
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", port))
            for source, sink in ((client, server), (server, client)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=_pass, args=(source, sink, delay), daemon=True).start()


def _pass(source: socket.socket, sink: socket.socket, delay: float) -> None:
    with suppress(OSError):  # either side may be gone, which ends the other
        while data := source.recv(_SIZE):
            time.sleep(delay)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay-ms", type=float, default=0.2, help="of a message, each way")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = measure(
        delay=given.delay_ms / 1000, threads=given.threads, rounds=given.rounds, calls=given.calls
    )
    print_table("reads at a distance", rows, as_json=given.json)


if __name__ == "__main__":
    main()
