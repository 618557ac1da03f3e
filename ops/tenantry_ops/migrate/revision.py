"""Write a revision of a service's models: what differs between them and the parents of a shard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic.util import CommandError

from tenantry_ops.cluster import read_places
from tenantry_ops.engine import engine_of
from tenantry_ops.models import layout_of
from tenantry_schema.errors import MigrationFailed
from tenantry_schema.migrations import write_revision

if TYPE_CHECKING:
    from pathlib import Path


def write_fleet_revision(catalog: str, message: str, *, empty: bool = False) -> Path:
    """Write a revision of a service's models, compared with the first shard; return its path.

    :param empty: whether to leave its body to the author
    :raises InvalidConfig: when the models name no package for revisions
    :raises MigrationFailed: when the shard is not at the newest revision
    """
    places = read_places(catalog)
    places.check_complete()
    layout = layout_of(places.models)
    first = places.shards[0]
    with engine_of(first.conninfo).connect() as connection:
        try:
            return write_revision(connection, layout, message, empty=empty)
        except CommandError as error:
            raise MigrationFailed(f"{first.name}: {error}; run `tenantry migrate` first") from error
