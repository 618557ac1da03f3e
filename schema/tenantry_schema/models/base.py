"""What every shipped table shares.

Models name neither a schema nor the bucket column: the routed ``search_path`` and the partition's
default do. Every constraint has a name of at most 50 bytes, and contains ``tenant_id``, so that the
tables can be distributed by Citus one day (facts gathered for it: design, section 8a).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Integer, MetaData, SmallInteger, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column

TenantId = Annotated[UUID, mapped_column(primary_key=True, sort_order=-2)]
Id = Annotated[UUID, mapped_column(primary_key=True, sort_order=-1)]
Moment = Annotated[datetime, mapped_column(DateTime(timezone=True))]
Stamp = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]
Counter = Annotated[int, mapped_column(BigInteger, server_default="0")]
Small = Annotated[int, mapped_column(SmallInteger, server_default="0")]
Whole = Annotated[int, mapped_column(Integer, server_default="0")]
Document = Annotated[dict[str, object], mapped_column(JSONB, server_default="{}")]


class Base(DeclarativeBase):
    """The base of the shipped models."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s_check",
        }
    )


#: Bytes of a document of a task as Postgres holds it; callers are refused far below (store.checks).
STORED_BYTES = 4 * 1024 * 1024


def stored_size(column: str) -> str:
    """Return the SQL condition that a document is not larger than Postgres should be asked for."""
    return f"pg_column_size({column}) <= {STORED_BYTES}"
