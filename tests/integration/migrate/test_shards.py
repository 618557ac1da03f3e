"""A service's own change on several shards: the canary, what fails, and how many at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from socket import create_server

import psycopg
import pytest
from fix_blank import make_blank, make_copy
from integration.migrate.own_models import author, forget, write

from tenantry_ops.initialise import InitPlan, initialise
from tenantry_ops.migrate import migrate
from tenantry_ops.migrate.state import schema_state
from tenantry_ops.structure import schema_diff
from tenantry_schema.errors import MigrationFailed

PACKAGE = "service_on_shards"
MODELS = f"{PACKAGE}.models:Base"
COLOUR = """
SELECT count(*) FROM pg_attribute WHERE attname = 'colour' AND attrelid = 'fleet.notes'::regclass
"""
# The revision says where it begins, and waits until it is told to go on.
RENDEZVOUS = """
def upgrade() -> None:
    from socket import create_connection

    with create_connection(("127.0.0.1", {port})) as door:
        name = op.get_bind().exec_driver_sql("SELECT current_database()").scalar_one()
        door.sendall(name.encode())
        door.recv(1)
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def before(fleet, tmp_path_factory):
    """A fleet of four shards with a service's own models, before they are changed."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patched:
        blank = make_blank(fleet, stack, shards=4)
        place = tmp_path_factory.mktemp("before")
        write(place, PACKAGE, changed=False)
        patched.syspath_prepend(place)
        initialise(InitPlan(blank.catalog, blank.shards, 4, MODELS))
        forget(PACKAGE)
        yield blank


@pytest.fixture
def changed(fleet, before, tmp_path, monkeypatch):
    """A copy of that fleet, whose models have just been changed."""
    write(tmp_path, PACKAGE, changed=True)
    monkeypatch.syspath_prepend(tmp_path)
    with ExitStack() as stack:
        yield make_copy(fleet, stack, before)
    forget(PACKAGE)


@contextmanager
def held(fleet, *numbers):
    """Keep the notes of some shards from being changed."""
    with ExitStack() as stack:
        for number in numbers:
            conn = stack.enter_context(psycopg.connect(fleet.conninfos[number - 1]))
            conn.execute("SET ROLE tenantry_owner")
            conn.execute("LOCK TABLE fleet.notes IN ACCESS SHARE MODE")
        yield


def coloured(fleet):
    """Which shards the change has reached."""
    found = []
    for number, conninfo in enumerate(fleet.conninfos, start=1):
        with psycopg.connect(conninfo) as conn:
            if conn.execute(COLOUR).fetchone() != (0,):
                found.append(f"s{number}")
    return found


def test_a_canary_that_fails_leaves_the_others_untouched(changed):
    """Once the reason is gone, the same command goes through."""
    author(changed.catalog)
    with held(changed, 1), pytest.raises(MigrationFailed, match=r"^s1: .*lock timeout") as caught:
        migrate(changed.catalog, patience=0.1)
    assert not any(f"s{number}: " in str(caught.value) for number in (2, 3, 4))
    assert coloured(changed) == []
    assert schema_state(changed.catalog).behind == ["s1", "s2", "s3", "s4"]
    assert list(migrate(changed.catalog)) == ["catalog", "s1", "s2", "s3", "s4"]
    assert schema_diff(changed.catalog) == []


@pytest.mark.parametrize("jobs", [1, 4])
def test_shards_that_fail_are_named_and_the_rest_are_upgraded(changed, jobs):
    """Also those that had not begun when the first one failed."""
    author(changed.catalog)
    told = []
    with held(changed, 2, 4), pytest.raises(MigrationFailed) as caught:
        migrate(changed.catalog, jobs=jobs, patience=0.1, progress=told.append)
    second, fourth = str(caught.value).split("; s4: ")
    assert second.startswith("s2: ")
    assert "lock timeout" in second
    assert "lock timeout" in fourth
    assert told == ["catalog", "s1", "s3"] == ["catalog", *coloured(changed)]
    assert schema_state(changed.catalog).behind == ["s2", "s4"]
    migrate(changed.catalog, jobs=jobs)
    assert schema_diff(changed.catalog) == []


def test_the_canary_is_alone_and_then_so_many_at_once(changed):
    """A revision that waits holds up as many others as there are jobs, and no more."""
    path = author(changed.catalog)
    with (
        ThreadPoolExecutor(1) as pool,
        create_server(("127.0.0.1", 0)) as door,
        ExitStack() as guests,
    ):
        begin = RENDEZVOUS.format(port=door.getsockname()[1])
        path.write_text(path.read_text().replace("def upgrade() -> None:\n", begin))

        def begun():
            door.settimeout(30)
            guest = guests.enter_context(door.accept()[0])
            return guest, guest.recv(100).decode()

        def nobody_else():
            door.settimeout(0.5)
            with pytest.raises(TimeoutError):
                door.accept()

        running = pool.submit(migrate, changed.catalog, jobs=2)
        canary, first = begun()
        assert first == changed.names[1]
        nobody_else()
        canary.sendall(b".")
        waiting = [begun(), begun()]
        nobody_else()
        waiting[0][0].sendall(b".")
        waiting.append(begun())
        for guest, _ in waiting[1:]:
            guest.sendall(b".")
        assert sorted(name for _, name in waiting) == list(changed.names[2:])
        assert list(running.result(timeout=60)) == ["catalog", "s1", "s2", "s3", "s4"]
    assert schema_diff(changed.catalog) == []
