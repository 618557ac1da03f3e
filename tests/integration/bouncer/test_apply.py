"""Files brought into force on a real PgBouncer, and what becomes of those that it cannot read."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from fix_bouncer import Load, connected

from tenantry_ops.bouncer.apply import apply_plan, plan_for, running
from tenantry_ops.bouncer.diff import Effect
from tenantry_ops.bouncer.files import locked, put_files
from tenantry_ops.bouncer.ini import Ini, render_ini
from tenantry_ops.bouncer.inspection import inspect
from tenantry_ops.bouncer.keys import BUILT
from tenantry_ops.bouncer.lying import read_ini
from tenantry_ops.bouncer.merge import Edited
from tenantry_ops.bouncer.place import put_in_force
from tenantry_ops.bouncer.render import INI, PASSFILE, USERLIST
from tenantry_ops.bouncer.settings import read_settings
from tenantry_ops.bouncer.source import catalog_source, target_version, want
from tenantry_ops.bouncer.table import keys_of
from tenantry_ops.bouncer.versions import TAKES_FORCED_USER
from tenantry_schema.errors import BouncerError, InvalidConfig, OperationInProgress
from tenantry_schema.naming import APP, OPERATOR


def plan(own, policy=Edited.REFUSE, **given):
    settings = read_settings(own.directory, given)
    source = catalog_source(own.fleet.catalog_conninfo(OPERATOR))
    version = target_version(settings, own.directory)
    made, passfile = want(source, settings, version=version, directory=own.directory)
    assert passfile is None
    return plan_for(own.directory, made, policy)


def in_force(own):
    with own.pooler.open() as console:
        config = {row["key"]: row["value"] for row in console.show("CONFIG")}
        databases = {row["name"]: row for row in console.show("DATABASES")}
    return config, databases


def edit(own, **values):
    """Change keys of the main section by hand; return the text as it was."""
    path = own.directory / INI
    before = path.read_text()
    sections = read_ini(own.directory).sections()
    for key, value in values.items():
        sections["pgbouncer"][key] = value
    path.write_text(render_ini(Ini.of(sections)))
    return before


def test_the_table_of_keys_is_what_pgbouncer_shows(bouncer):
    """Every key, its default and whether RELOAD changes it, of the version that runs."""
    with bouncer.pooler.open() as console:
        version = console.version
        shown = {row["key"]: row for row in console.show("CONFIG")}
    del shown["conffile"]
    known = keys_of(version)
    assert set(known) == set(shown)
    for name, key in known.items():
        assert key.reload is (shown[name]["changeable"] == "yes"), name
        default = key.default_of(version)
        if default != BUILT:
            assert key.same(default, shown[name]["default"]), name


def test_nothing_is_wrong_with_what_was_written(own):
    """Checked, in force, secret, and a second time nothing changes."""
    assert inspect(own.directory, target_version(read_settings(None, {}), own.directory)) == []
    assert running(own.pooler) == []
    owner = own.directory.stat()
    for name in (INI, USERLIST, PASSFILE):
        found = (own.directory / name).stat()
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert name == PASSFILE or found.st_uid == owner.st_uid
    again = plan(own)
    assert (again.changes, again.edited) == ([], [])


def test_a_change_is_brought_into_force(own):
    """What RELOAD changes at once, what waits for a restart, and no restart happens."""
    pid = own.pid
    wanted = plan(own, query_wait_timeout=77, listen_port=own.pooler.port + 1)
    effects = {it.key: it.effect for it in wanted.changes}
    assert effects == {"query_wait_timeout": Effect.RELOAD, "listen_port": Effect.RESTART}
    pooler = own.pooler
    waiting = apply_plan(pooler, wanted)
    assert [it.where for it in waiting] == ["[pgbouncer] listen_port"]
    with pooler.open() as console:
        config = {row["key"]: row["value"] for row in console.show("CONFIG")}
    assert (config["query_wait_timeout"], own.pid) == ("77", pid)


def test_what_pgbouncer_cannot_read_is_taken_back(own):
    """A bad line resets what follows it; read back, so that the former files are in force again."""
    before, _ = in_force(own)
    lying = (own.directory / INI).read_bytes()
    bad = lying.replace(b"server_login_retry = 1", b"no_such_key = 1\nserver_login_retry = 1")
    assert bad != lying
    with own.pooler.open() as console, pytest.raises(BouncerError):
        put_in_force(console, own.directory, {INI: bad}, read_ini(own.directory))
    assert (own.directory / INI).read_bytes() == lying
    assert in_force(own)[0] == before


def test_an_entry_that_is_not_in_force_is_seen(own):
    """A file that was changed and not read, and a value that was set at the console."""
    edit(own, query_wait_timeout="50")
    assert [it.where for it in running(own.pooler)] == ["[pgbouncer] query_wait_timeout"]
    with own.pooler.open() as console:
        console.reload()
        console._run("SET max_client_conn = 222")
    assert [it.where for it in running(own.pooler)] == ["[pgbouncer] max_client_conn"]


def test_what_was_changed_by_hand(own):
    """Refused by default, kept or discarded when that is said; shown in any case."""
    original = edit(own, verbose="1", server_login_retry="2")
    with pytest.raises(InvalidConfig, match="verbose"):
        plan(own)
    kept = plan(own, Edited.KEEP, query_wait_timeout=70)
    assert {it.key for it in kept.edited} == {"verbose", "server_login_retry"}
    assert apply_plan(own.pooler, kept) == []
    config, _ = in_force(own)
    told = (config["verbose"], config["server_login_retry"], config["query_wait_timeout"])
    assert told == ("1", "2", "70")
    assert plan(own, Edited.KEEP, query_wait_timeout=70).changes == []
    waiting = apply_plan(own.pooler, plan(own, Edited.DISCARD))
    # A key without a default keeps its value until a restart.
    assert [it.where for it in waiting] == ["[pgbouncer] verbose"]
    assert (own.directory / INI).read_text() == original


def forced_user(own):
    wanted = plan(own)
    sections = wanted.ini.sections()
    sections["databases"]["shard-1"] += f" user={APP} password=x"
    ini = Ini.of(sections)
    files = {**wanted.files, INI: render_ini(ini).encode()}
    return replace(wanted, ini=ini, files=files)


def test_a_change_that_crashes_is_refused(own):
    """user= for an entry that has a pool: below 1.23.1 PgBouncer would be gone."""
    pid = own.pid
    with connected(own, "shard-1") as conn:
        conn.execute("SELECT 1")
        wanted = forced_user(own)
        if wanted.version < TAKES_FORCED_USER:
            with pytest.raises(InvalidConfig, match=r"crashes PgBouncer"):
                apply_plan(own.pooler, wanted)
            assert " user=" not in (own.directory / INI).read_text().split("[databases]")[1]
        else:
            apply_plan(own.pooler, wanted)
            assert in_force(own)[1]["shard-1"]["force_user"] == APP
    assert own.pid == pid


def test_an_entry_in_use_does_not_go_by_itself(own):
    """Its clients would get an error: only when that is said."""
    wanted = plan(own)
    sections = wanted.ini.sections()
    del sections["databases"]["shard-2-b"]
    ini = Ini.of(sections)
    wanted = replace(wanted, ini=ini, files={**wanted.files, INI: render_ini(ini).encode()})
    with connected(own, "shard-2-b") as conn:
        with pytest.raises(InvalidConfig, match="--disconnect"):
            apply_plan(own.pooler, wanted)
        assert conn.execute("SELECT 1").fetchone() == (1,)
        apply_plan(own.pooler, wanted, disconnect=True)
        with pytest.raises(psycopg.OperationalError):
            conn.execute("SELECT 1")
    assert "shard-2-b" not in in_force(own)[1]


def test_an_entry_that_leads_elsewhere_is_moved_in_a_pause(own):
    """Clients wait; none gets an error, and none is on the old server once one is on the new."""
    wanted = plan(own)
    sections = wanted.ini.sections()
    primary, replica = own.fleet.shards[0].servers
    line = sections["databases"]["shard-1-b"]
    # Both have the same verifiers, as nodes of one shard do.
    sections["databases"]["shard-1-b"] = line.replace(str(replica.port), str(primary.port))
    ini = Ini.of(sections)
    wanted = replace(wanted, ini=ini, files={**wanted.files, INI: render_ini(ini).encode()})
    with Load(own, "shard-1-b") as load:
        load.await_answers(replica.name)
        apply_plan(own.pooler, wanted)
        load.await_answers(primary.name)
    assert load.errors == []
    load.check_order(replica.name, primary.name)


@pytest.mark.parametrize("place", ["/proc/self", "/nowhere/at/all", "/dev/null"])
def test_a_folder_that_cannot_be_written(place):
    """Refused before anything is changed."""
    with pytest.raises(InvalidConfig, match="nothing was changed"):
        with locked(Path(place)):
            put_files(Path(place), {"a": b"x", "b": b"y"})


def test_all_files_or_none(tmp_path):
    """One that cannot be replaced leaves the others as they were."""
    (tmp_path / "a").write_text("old")
    (tmp_path / "b" / "in the way").mkdir(parents=True)
    with pytest.raises(InvalidConfig):
        put_files(tmp_path, {"a": b"new", "b": b"new"})
    assert (tmp_path / "a").read_text() == "old"
    assert sorted(it.name for it in tmp_path.iterdir()) == ["a", "b"]


def test_what_was_there_comes_back(tmp_path):
    """Also that a file was not there."""
    (tmp_path / "a").write_text("old")
    replaced = put_files(tmp_path, {"a": b"new", "b": b"new"})
    assert (tmp_path / "a").read_text() == "new"
    replaced.restore()
    assert {it.name: it.read_text() for it in tmp_path.iterdir()} == {"a": "old"}


def test_one_at_a_time_changes_a_folder(tmp_path):
    """The second is told so."""
    with locked(tmp_path), pytest.raises(OperationInProgress), locked(tmp_path):
        pass


def test_files_for_another_version_are_not_applied(own):
    """Its keys would be misread."""
    wanted = plan(own)
    other = wanted.version._replace(patch=wanted.version.patch + 7)
    with pytest.raises(InvalidConfig, match="runs at"):
        apply_plan(own.pooler, replace(wanted, version=other))
