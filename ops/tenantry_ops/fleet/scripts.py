"""Write the SQL of the Docker fleet from what the embedded fleet runs; a test compares them.

``python -m tenantry_ops.fleet.scripts ops/compose/initdb/sql``
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tenantry_ops.fleet.statements import cluster_statements, create_database
from tenantry_schema.naming import CATALOG_DATABASE, SHARD_DATABASE
from tenantry_schema.roles import database_statements, promotion_statements

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tenantry_schema.query import Statement

_HEADER = "-- Written by `python -m tenantry_ops.fleet.scripts FOLDER`; do not edit.\n"


def scripts() -> dict[str, str]:
    """Return file name -> what psql runs once on a new cluster, as its superuser."""
    databases = {
        f"{name}.sql": _script([create_database(name), *database_statements(name)])
        for name in (SHARD_DATABASE, CATALOG_DATABASE)
    }
    promotion = {"promotion.sql": _script(promotion_statements())}
    return {"roles.sql": _script(cluster_statements()), **databases, **promotion}


def _script(statements: Iterable[Statement]) -> str:
    return _HEADER + "".join(f"{it.as_string(None).strip()};\n" for it in statements)


if __name__ == "__main__":
    for file, text in scripts().items():
        Path(sys.argv[1], file).write_text(text)
