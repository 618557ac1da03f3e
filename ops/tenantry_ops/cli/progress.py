"""How a long command shows its steps: one bar, on the stream beside the answer's."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tenantry_ops.cli.console import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tenantry_ops.steps import Step


@contextmanager
def shown_steps() -> Iterator[Step]:
    """Give a step that moves the bar, which is gone at the end."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        bar = progress.add_task("start")

        def step(phase: str, done: int, of: int) -> None:
            progress.update(bar, description=phase, completed=done, total=of)

        yield step
