"""Clients that feel a stall: a writer at full speed, a reader that keeps its transaction open."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True)
class Felt:
    """What a client felt, in milliseconds.

    :ivar calls: how often it called
    """

    longest: float = 0.0
    calls: int = 0
    errors: list[str] = field(default_factory=list)


@contextmanager
def calling(conninfo: str, statement: str) -> Iterator[Felt]:
    """Run a statement again and again until the block ends, each in a transaction of its own."""
    felt, ended, begun = Felt(), threading.Event(), threading.Event()

    def loop() -> None:
        with psycopg.connect(conninfo, autocommit=True) as conn:
            while not ended.is_set():
                started = time.perf_counter()
                try:
                    conn.execute(statement.encode())
                except psycopg.Error as error:
                    felt.errors.append(str(error).splitlines()[0])
                if begun.is_set():
                    felt.longest = max(felt.longest, (time.perf_counter() - started) * 1000)
                felt.calls += 1
                if felt.calls == _WARM:
                    begun.set()

    thread = threading.Thread(target=loop)
    thread.start()
    begun.wait()
    try:
        yield felt
    finally:
        ended.set()
        thread.join()


_WARM = 50


@contextmanager
def reading(conninfo: str, statement: str, seconds: float) -> Iterator[None]:
    """Keep a transaction open that has read, for so long from now on."""
    begun = threading.Event()

    def hold() -> None:
        with psycopg.connect(conninfo) as conn:
            conn.execute(statement.encode())
            begun.set()
            time.sleep(seconds)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        thread.join()
