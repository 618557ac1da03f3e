"""Long statements, one topic to a file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def load(name: str) -> str:
    """Return the text of a statement file of this package."""
    return files(__name__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
