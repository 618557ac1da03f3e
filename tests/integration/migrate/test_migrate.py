"""A service's own change, from autogenerate to every bucket, killed after every statement."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from fix_blank import make_blank, make_copy
from integration.migrate.own_models import author, forget, write

from tenantry_ops.doctor import examine, gather_facts
from tenantry_ops.initialise import InitPlan, initialise
from tenantry_ops.locking import operation
from tenantry_ops.migrate import migrate
from tenantry_ops.migrate.state import schema_state
from tenantry_ops.structure import schema_diff
from tenantry_schema.errors import MigrationFailed, OperationInProgress


@dataclass(frozen=True)
class Service:
    catalog: str
    shard: str
    models: str


PACKAGE = "service_that_migrates"
MODELS = f"{PACKAGE}.models:Base"


@pytest.fixture(scope="module")
def before(fleet, tmp_path_factory):
    """A fleet of one shard with a service's own models, before they are changed."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patched:
        blank = make_blank(fleet, stack)
        place = tmp_path_factory.mktemp("before")
        write(place, PACKAGE, changed=False)
        patched.syspath_prepend(place)
        initialise(InitPlan(blank.catalog, blank.shards[:1], 3, MODELS))
        assert schema_diff(blank.catalog) == []
        forget(PACKAGE)
        yield blank


@pytest.fixture
def service(fleet, before, tmp_path, monkeypatch):
    """A copy of that fleet, whose models have just been changed."""
    write(tmp_path, PACKAGE, changed=True)
    monkeypatch.syspath_prepend(tmp_path)
    with ExitStack() as stack:
        copy = make_copy(fleet, stack, before)
        yield Service(copy.catalog, copy.conninfos[0], MODELS)
    forget(PACKAGE)


@pytest.fixture
def revision(service):
    """The change as a revision: what autogenerate found, and what it leaves to its author."""
    return author(service.catalog)


def test_autogenerate_sees_parents_only(service, revision):
    """Neither buckets nor time partitions are taken for tables that should be dropped."""
    text = revision.read_text()
    up = text.partition("def upgrade")[2].partition("def downgrade")[0]
    assert "op.add_bucketed_column('notes', sa.Column('colour'" in up
    assert "op.create_bucketed_table(\n        'tags'" in up
    assert "drop" not in up
    down = text.partition("def downgrade")[2]
    assert "op.drop_bucketed_table('tags')" in down
    assert "op.drop_bucketed_column('notes', 'colour')" in down


@pytest.mark.slow
def test_the_change_reaches_every_bucket(service, revision):
    """The structure is what the models would make; until then the fleet is not healthy."""
    before = {it.problem for it in examine(gather_facts(service.catalog))}
    assert any("revision 0001_shard" in it for it in before)
    assert schema_diff(service.catalog) != []
    assert list(migrate(service.catalog)) == ["catalog", "s1"]
    assert schema_diff(service.catalog) == []
    assert schema_state(service.catalog).behind == []
    migrate(service.catalog)
    assert schema_diff(service.catalog) == []


@pytest.mark.slow
def test_a_migration_killed_after_every_statement(service, revision):
    """Run again it is completed, wherever it was killed; the killer strikes later every time."""
    told = {"conninfo": service.shard, "models": service.models, "path": sys.path}
    ended = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed.py"))],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 20
    assert schema_diff(service.catalog) == []


@pytest.mark.slow
def test_a_lock_that_is_held_is_tried_again(service, revision):
    """Nobody queues behind the migration for long, and it gets through when the lock is free."""
    with psycopg.connect(service.shard) as holder:
        holder.execute("SET ROLE tenantry_owner")
        holder.execute("LOCK TABLE bucket_0001.notes IN ACCESS SHARE MODE")
        with pytest.raises(MigrationFailed, match="lock timeout"):
            migrate(service.catalog, patience=0.1)
        release = threading.Timer(1.0, holder.rollback)
        release.start()
        migrate(service.catalog, patience=30)
        release.join()
    assert schema_diff(service.catalog) == []


@pytest.mark.slow
def test_an_index_that_was_left_invalid_is_built_again(service, revision):
    """As a build that was killed leaves it."""
    with (
        psycopg.connect(service.shard, autocommit=True) as conn,
        psycopg.connect(service.shard) as old,
    ):
        old.execute("LOCK TABLE bucket_0002.notes IN ROW EXCLUSIVE MODE")
        conn.execute("SET ROLE tenantry_owner")
        conn.execute("SET statement_timeout = '300ms'")
        with suppress(psycopg.errors.QueryCanceled):
            conn.execute("CREATE INDEX CONCURRENTLY notes_colour_idx ON bucket_0002.notes (body)")
        invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
        assert conn.execute(invalid).fetchone() == (1,)
    migrate(service.catalog)
    assert schema_diff(service.catalog) == []


def test_two_at_once_are_refused(service):
    """The second one is told, and changes nothing."""
    with operation(service.catalog, "migrate", "fleet"):
        with pytest.raises(OperationInProgress, match="another process runs migrate"):
            migrate(service.catalog)


@pytest.mark.slow
def test_a_worker_that_dies_is_told_by_name(service, revision):
    """A revision that fails names the database and the reason, and leaves the former revision."""
    text = revision.read_text().replace("length(body) < 100", "length(nobody) < 100")
    revision.write_text(text)
    with pytest.raises(MigrationFailed, match='s1: column "nobody" does not exist'):
        migrate(service.catalog)
    assert schema_state(service.catalog).behind == ["s1"]
