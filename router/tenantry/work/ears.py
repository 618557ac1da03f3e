"""What wakes a worker early: LISTEN on a direct connection to each shard, and Redis pub/sub.

Both may lose messages, or be silent: then the worker's polling finds the tasks. LISTEN needs a
connection of its own, past any pooler in transaction mode (design, section 9, rule 3).
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import redis

from tenantry.watchdog import shut
from tenantry_schema.naming import TASK_CHANNEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

logger = logging.getLogger("tenantry")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0
_LOOK_S = 0.5


class Ears:
    """Threads that hear of new tasks until they are closed.

    :param shards: conninfos of the shards' primaries
    :param url: of a Redis, or None
    :param hear: called with each message, in the thread that heard it
    """

    def __init__(self, shards: Iterable[str], url: str | None, hear: Callable[[str], None]) -> None:
        self._hear = hear
        self._closed = threading.Event()
        self._listening: set[psycopg.Connection[Any]] = set()
        sources: list[tuple[Callable[[str], None], str]]
        sources = [(self._listen, conninfo) for conninfo in shards]
        if url is not None:
            sources.append((self._subscribe, url))
        self._threads = [
            threading.Thread(target=self._forever, args=it, name="tenantry-ears", daemon=True)
            for it in sources
        ]

    def open(self) -> None:
        """Begin to listen."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop listening, and wait for the threads."""
        self._closed.set()
        for conn in list(self._listening):
            shut(conn)
        for thread in self._threads:
            thread.join()

    def _forever(self, listen: Callable[[str], None], where: str) -> None:
        pause = _FIRST_PAUSE_S
        while not self._closed.is_set():
            try:
                listen(where)
                pause = _FIRST_PAUSE_S
            except (psycopg.Error, redis.RedisError, OSError) as error:
                if not self._closed.is_set():
                    reason = (str(error).splitlines() or [type(error).__name__])[0]
                    logger.warning("new tasks are not heard of for now: %s", reason)
            self._closed.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    def _listen(self, conninfo: str) -> None:
        with psycopg.connect(conninfo, autocommit=True) as conn:
            self._listening.add(conn)
            try:
                conn.execute(f"LISTEN {TASK_CHANNEL}")
                while not self._closed.is_set():
                    for told in conn.notifies(timeout=_LOOK_S):
                        self._hear(told.payload)
            finally:
                self._listening.discard(conn)

    def _subscribe(self, url: str) -> None:
        with redis.Redis.from_url(url, decode_responses=True) as client, client.pubsub() as channel:
            channel.subscribe(TASK_CHANNEL)
            while not self._closed.is_set():
                told = channel.get_message(ignore_subscribe_messages=True, timeout=_LOOK_S)
                if told is not None:
                    self._hear(told["data"])
