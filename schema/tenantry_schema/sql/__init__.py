"""Long statements, one topic to a file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def load(name: str, package: str = __name__) -> str:
    """Return the text of a statement file of a package, by default of this one."""
    return files(package).joinpath(f"{name}.sql").read_text(encoding="utf-8")
