"""The page on PgBouncer has every setting, and says of versions what the code knows."""

from __future__ import annotations

import re
from pathlib import Path

from tenantry_ops.bouncer.settings import BouncerSettings
from tenantry_ops.bouncer.table import ENTRY_KEYS, KEYS, SECTIONS, USER_KEYS
from tenantry_ops.bouncer.versions import BEYOND, OLDEST

PAGE = (Path(__file__).parents[3] / "docs" / "howto" / "pgbouncer.md").read_text()


def _table(head):
    """The rows below a table's head, by their first cell."""
    rows = PAGE.partition(f"| {head} |")[2].split("\n\n")[0].splitlines()[2:]
    cells = [re.split(r" ?\| ?", line)[1:-1] for line in rows]
    return {first: rest for first, *rest in cells}


def test_every_setting_is_there_with_its_default():
    """A default of None is said in words."""
    rows = _table("setting")
    named = {name: row for names, row in rows.items() for name in re.findall(r"\w+", names)}
    assert list(named) == list(BouncerSettings.model_fields)
    for name, field in BouncerSettings.model_fields.items():
        said = named[name][0]
        if field.default is None:
            assert "`" not in said
        else:
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            assert said == f"`{default}`".replace("'", '"')


def test_what_a_version_knows_is_what_is_rendered():
    """Keys, entries and sections that a row names came with that version."""
    since = (
        {it.name: it.since for it in KEYS} | ENTRY_KEYS | {f"[{k}]": v for k, v in SECTIONS.items()}
    )
    for version, (known,) in _table("from").items():
        minor = int(version.split(".")[1])
        for name in re.findall(r"`([a-z_\[\]]+)`", known):
            if name in since:
                assert minor in {since[name], USER_KEYS.get(name), *_changed(name)}, (version, name)
    assert f"{OLDEST.major}.{OLDEST.minor} to {BEYOND.major}.{BEYOND.minor - 1}" in PAGE


def _changed(name):
    key = next((it for it in KEYS if it.name == name), None)
    return () if key is None else (key.until, key.then and key.then[0])
