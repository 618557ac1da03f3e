"""The reference of the package names everything that a service may use."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path

import pytest

import tenantry
from tenantry import AsyncRouter, AsyncWorker, Router, Worker
from tenantry.core import RouterCore
from tenantry.settings import RouterSettings
from tenantry.work import WorkerOptions

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "router.md").read_text()
#: Whatever is set as code, outside of examples.
CODE = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL))
NAMED = {word for code in CODE for word in re.findall(r"\w+", code)}
MODULES = ["actors", "agents", "history", "schedules", "tasks"]


def _rows(title):
    """The cells of the first table behind a heading, by the first cell's name."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = [re.split(r" ?\| ?", line)[1:-1] for line in section.splitlines() if line[:2] == "| "]
    return {cells[0].strip("`"): cells[1:] for cells in rows[1:]}


def _public(*classes):
    return {name for it in classes for name in vars(it) if not name.startswith("_")}


def test_every_setting_is_there_as_it_is():
    """Its environment variable and its default, and no setting that is none."""
    rows = _rows("Settings")
    assert list(rows) == list(RouterSettings.model_fields)
    for name, field in RouterSettings.model_fields.items():
        variable, default, unit, meaning = rows[name]
        assert variable == f"`TENANTRY_{name.upper()}`"
        shown = "none" if field.default is None else f"`{field.default}`"
        assert default == ("must be given" if field.is_required() else shown)
        assert unit
        assert meaning


def test_every_option_of_a_worker_is_there():
    """Each with its default, where that is a constant of more than None."""
    rows = _rows("Workers")
    assert list(rows) == [it.name for it in fields(WorkerOptions)]
    for it in fields(WorkerOptions):
        if it.default not in {MISSING, None}:
            assert rows[it.name][0].strip("`") == str(it.default).replace("'", '"')


def test_every_name_of_the_package_is_there():
    """And what it says of itself is true."""
    assert set(tenantry.__all__) - NAMED == set()
    assert all(hasattr(tenantry, it) for it in tenantry.__all__)


@pytest.mark.parametrize("module", MODULES)
def test_every_name_of_a_module_is_there(module):
    """What it makes, and what that works with."""
    assert set(import_module(f"tenantry.{module}").__all__) - NAMED == set()


def test_every_method_is_there():
    """Of both doors and both workers; what is inherited from inner classes is no promise."""
    assert _public(Router, AsyncRouter, RouterCore, Worker, AsyncWorker) - NAMED == set()
