"""Servers that are elsewhere: a forwarder for each, which keeps what it is sent for a while."""

from __future__ import annotations

import multiprocessing
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psycopg

from tenantry_schema.naming import CATALOG_DATABASE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from tenantry_loadtest.bench.stage import Stage

_SIZE = 65536
_MOVE = "UPDATE tenantry.nodes SET host = '127.0.0.1', port = %s WHERE name = %s"


@contextmanager
def elsewhere(on: Stage, delay: float) -> Iterator[list[int]]:
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
