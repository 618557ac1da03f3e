"""A worker in a process of its own, so that a test may send it signals.

It reads who it is as JSON from standard input, and says each task that it begins and its own end.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from uuid import UUID

from tenantry import AsyncRouter, AsyncWorker, Router, Worker


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(told):
    options = {"tenants": [UUID(told["tenant"])], "poll": 0.1, "listen": False, **told["options"]}
    if told["colour"] == "sync":
        with Router(told["catalog"], pool_size=6) as router:
            handlers = {"quick": lambda job: quick(job, told), "stuck": stuck}
            Worker(router, handlers, **options).run()
    else:
        asyncio.run(arun(told, options))
    say("ended")


def quick(job, told):
    say(f"began {job.claim.id}")
    time.sleep(told["seconds"])


def stuck(job):
    say(f"began {job.claim.id}")
    threading.Event().wait()


async def arun(told, options):
    async def aquick(job):
        say(f"began {job.claim.id}")
        await asyncio.sleep(told["seconds"])

    async def astuck(job):
        say(f"began {job.claim.id}")
        await asyncio.Event().wait()

    async with AsyncRouter(told["catalog"], pool_size=6) as router:
        await AsyncWorker(router, {"quick": aquick, "stuck": astuck}, **options).run()


if __name__ == "__main__":
    main(json.loads(sys.stdin.readline()))
