"""The two streams: what a command answers, and what it says about itself."""

from __future__ import annotations

from rich.console import Console

console = Console()
errors = Console(stderr=True)
