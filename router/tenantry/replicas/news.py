"""Wait for news of a shard, in either colour."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenantry.replicas.watch import ShardWatch


def wait_for_news(watch: ShardWatch, seconds: float) -> None:
    """Return when there is news, or after so many seconds."""
    news = threading.Event()
    wake = news.set
    watch.wake_at_news(wake)
    news.wait(max(0.0, seconds))
    watch.forget(wake)


async def await_news(watch: ShardWatch, seconds: float) -> None:
    """Return when there is news, or after so many seconds."""
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        # A loop that was closed meanwhile has nobody who waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(news.set)

    watch.wake_at_news(wake)
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await news.wait()
    except TimeoutError:
        pass
    finally:
        watch.forget(wake)
