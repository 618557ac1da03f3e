"""What docs/howto/migrations.md shows, done by a service: its models, its two revisions."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from fix_blank import make_blank
from integration.migrate.own_models import forget

from tenantry_ops.initialise import InitPlan, initialise
from tenantry_ops.migrate import migrate
from tenantry_ops.structure import schema_diff
from tenantry_partitions.policies import read_policies

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "migrations.md"
MODELS, FIRST, SECOND = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
PACKAGE = "shop"


@pytest.fixture
def shop(fleet, tmp_path, monkeypatch):
    """The package before its models are changed, and a fleet of one shard with them."""
    (tmp_path / PACKAGE / "revisions").mkdir(parents=True)
    for package in (tmp_path / PACKAGE, tmp_path / PACKAGE / "revisions"):
        (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    save(tmp_path, "models.py", re.sub(r".*# new\n", "", MODELS))
    with ExitStack() as stack:
        blank = make_blank(fleet, stack)
        initialise(InitPlan(blank.catalog, blank.shards[:1], 2, f"{PACKAGE}.models:Base"))
        save(tmp_path, "models.py", MODELS)
        yield blank
    forget(PACKAGE)


def save(place, name, text):
    (place / PACKAGE / name).write_text(text)
    forget(PACKAGE)


@pytest.mark.slow
def test_the_page_can_be_followed(shop, tmp_path, tenantry):
    """What autogenerate leaves out is what the page says; with it every bucket is as the models."""
    ended = tenantry("schema", "revision", "colour notes", "--catalog", shop.catalog, "--json")
    written = Path(json.loads(ended.stdout)["path"])
    assert written.parent == tmp_path / PACKAGE / "revisions"
    assert "op.add_bucketed_column('notes'" in written.read_text()
    assert "index" not in written.read_text()
    written.unlink()

    save(tmp_path, "revisions/first.py", FIRST)
    migrate(shop.catalog)
    assert schema_diff(shop.catalog) == []

    save(tmp_path, "revisions/second.py", SECOND)
    migrate(shop.catalog)
    assert {it.table for it in schema_diff(shop.catalog)} >= {"readings"}
    with psycopg.connect(shop.conninfos[0]) as conn:
        conn.execute("SET ROLE tenantry_owner")
        conn.execute("INSERT INTO public.visits (id, at) VALUES (1, now())")
        assert set(read_policies(conn)) == {"readings", "public.visits"}
