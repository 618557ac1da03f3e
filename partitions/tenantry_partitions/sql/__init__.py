"""Long statements, one to a file."""

from __future__ import annotations

from functools import partial

from tenantry_schema import sql

load = partial(sql.load, package=__name__)
