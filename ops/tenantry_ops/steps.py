"""How long commands tell what they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

#: Told of the phase, how much of it is done, and how much there is.
Step: TypeAlias = Callable[[str, int, int], None]
