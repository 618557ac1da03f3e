"""How benchmarks print: a table for people, a line of JSON for programs."""

from __future__ import annotations

import json
import platform
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence


def print_table(title: str, rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Print rows of one shape."""
    if as_json:
        print(json.dumps({"title": title, "python": platform.python_version(), "rows": rows}))  # noqa: T201
        return
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)
