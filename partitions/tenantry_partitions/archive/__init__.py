"""Detached partitions as Parquet in object storage: written, read back, and only then dropped.

Needs the extra ``archive`` (pyarrow, obstore). Any Parquet reader can query what lies there.
"""

from __future__ import annotations

from tenantry_partitions.archive.archiver import Archiver
from tenantry_partitions.archive.manifest import Manifest
from tenantry_partitions.archive.restore import restore
from tenantry_partitions.archive.store import Store

__all__ = ["Archiver", "Manifest", "Store", "restore"]
