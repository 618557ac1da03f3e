"""SQLAlchemy on a direct connection, for what is done to one database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from sqlalchemy import Engine


def engine_of(conninfo: str) -> Engine:
    """Return an engine whose connections are direct and end with their use."""
    return create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo), poolclass=NullPool
    )
