"""Find the tables that a fleet holds: the shipped ones, or a service's own MetaData by its name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from sqlalchemy import MetaData

from tenantry_schema.errors import InvalidConfig
from tenantry_schema.layout import Layout
from tenantry_schema.models import Base


def layout_of(models: str | None) -> Layout:
    """Return the layout of the shipped tables, or of a service's.

    :param models: ``module:attribute`` of a MetaData or a declarative base, or None
    :raises InvalidConfig: when there is no such module, attribute or MetaData
    :raises InvalidSchema: when its tables cannot live in buckets
    """
    return Layout.from_metadata(Base.metadata if models is None else _found(models))


def _found(models: str) -> MetaData:
    module_name, _, attribute = models.partition(":")
    if not module_name or not attribute or "\0" in models:
        raise InvalidConfig(f"models must be 'module:attribute', not {models!r:.80}")
    here = str(Path.cwd())
    if here not in sys.path:
        # A console script has its own folder on the path, not the one that it was called in.
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise InvalidConfig(f"models {models!r:.80} cannot be imported: {error}") from error
    metadata = getattr(found, "metadata", found)
    if not isinstance(metadata, MetaData):
        raise InvalidConfig(f"models {models!r:.80} is a {type(found).__name__}, not a MetaData")
    return metadata
