"""Stop between two steps: the first signal is kept until a step ends, the second one acts at once.

Servers are children that are being made, copied and stopped; an exception at any instruction could
lose one of them. Steps are short, so a person hardly waits.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import FrameType

    from tenantry_ops.steps import Step

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Hold back SIGINT and SIGTERM, in the main thread, while it is entered."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._cleaning = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def check(self) -> None:
        """Exit with 128 + the signal's number when one came."""
        if self.received is not None and not self._cleaning:
            sys.exit(128 + self.received)

    def between(self, step: Step) -> Step:
        """Return a step that exits when a signal came, before it tells."""

        def checked(phase: str, done: int, of: int) -> None:
            self.check()
            step(phase, done, of)

        return checked

    def shield(self) -> None:
        """Let nothing stop what follows: the clean-up."""
        self._cleaning = True

    def _note(self, number: int, _frame: FrameType | None) -> None:
        again = self.received is not None
        self.received = number
        if again:
            self.check()
