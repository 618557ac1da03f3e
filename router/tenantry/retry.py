"""When ``run`` tries again: only what was certainly rolled back, within the deadline.

Full jitter between attempts, so that callers who collided do not meet again.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tenantry.errors import BucketMoved, ReadInterrupted, ShardUnavailable
from tenantry.sqlstates import is_fence, is_retryable

if TYPE_CHECKING:
    from tenantry.call import Call

_FIRST_S = 0.005
_LONGEST_S = 0.5


class Attempts:
    """The tries of one ``run``."""

    def __init__(self, allowed: int) -> None:
        self._left = allowed
        self._ceiling = _FIRST_S
        self._doubted = False

    def pause_after(self, error: BaseException, call: Call) -> float | None:
        """Return the seconds to wait before the next try, or None when the error is the answer.

        A bucket on its way to a new home is waited for until the deadline: that wait costs no try.
        """
        if call.committed:
            return None
        if isinstance(error, BucketMoved):
            return self._pause(call)
        if is_fence(error) and not self._doubted:
            # The bucket is served again, but may not have been when the statement met its table.
            self._doubted = True
            return self._pause(call)
        if isinstance(error, ReadInterrupted):
            # Another node answers: there is nobody to collide with.
            self._left -= 1
            return 0.0 if self._left > 0 and call.remaining > 0 else None
        if not (is_retryable(error) or isinstance(error, ShardUnavailable)):
            return None
        self._left -= 1
        return self._pause(call) if self._left > 0 else None

    def _pause(self, call: Call) -> float | None:
        pause = random.uniform(0, self._ceiling)  # noqa: S311  jitter is not a secret
        self._ceiling = min(self._ceiling * 2, _LONGEST_S)
        return pause if pause < call.remaining else None
