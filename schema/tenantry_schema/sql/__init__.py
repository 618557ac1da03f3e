"""Long statements, one topic to a file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import LiteralString, cast


@cache
def load(name: str) -> LiteralString:
    """Return the text of a statement file of this package."""
    text = files(__name__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
    return cast("LiteralString", text)
