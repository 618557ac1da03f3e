"""What a caller says about the age of what it reads (design, section 5).

Nothing is inferred: without a policy, and with :class:`Fresh`, the primary answers. The two others
say how old an answer may be, and what is to happen when no replica can promise that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from tenantry.errors import InvalidInput, UnsupportedRead
from tenantry.tokens import Token

if TYPE_CHECKING:
    from typing import Any

#: When no replica qualifies: the primary answers; or the caller waits, then gets
#: :class:`~tenantry.errors.TooStale`; or gets it at once.
Otherwise: TypeAlias = Literal["primary", "wait", "error"]

#: Beyond this nobody means it: the sampler's memory ends here, too.
LONGEST_LAG = timedelta(hours=1)

_WAIT = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Fresh:
    """Read from the primary: the default."""


@dataclass(frozen=True, slots=True, init=False)
class Stale:
    """Accept an answer that may be old, up to a bound.

    :param max_lag: the oldest that an answer may be, above 0 and at most an hour; or
    :param seconds: the same as a number of seconds
    :param otherwise: what to do when no replica qualifies, default ``"primary"``
    :param wait: how long ``otherwise="wait"`` waits, default 1 s
    :raises InvalidInput: for a lag or a wait that cannot be
    """

    max_lag: timedelta
    otherwise: Otherwise
    wait: timedelta

    def __init__(
        self,
        max_lag: timedelta | None = None,
        *,
        seconds: float | None = None,
        otherwise: Otherwise = "primary",
        wait: timedelta = _WAIT,
    ) -> None:
        if (max_lag is None) == (seconds is None):
            raise InvalidInput("Stale takes exactly one of max_lag (a timedelta) and seconds=")
        _set(self, "max_lag", _lag(max_lag, seconds))
        _set(self, "otherwise", _otherwise(otherwise))
        _set(self, "wait", _bounded("wait", wait))


@dataclass(frozen=True, slots=True, init=False)
class AtLeast:
    """Read what was written up to a token, or later: read your own writes, on any node.

    :param token: ``receipt.token`` of the write, or its text
    :param otherwise: what to do when no replica qualifies, default ``"primary"``
    :param wait: how long ``otherwise="wait"`` waits, default 1 s
    :raises InvalidToken: for text that is no token
    """

    token: Token
    otherwise: Otherwise
    wait: timedelta

    def __init__(
        self, token: Token | str, *, otherwise: Otherwise = "primary", wait: timedelta = _WAIT
    ) -> None:
        _set(self, "token", token if isinstance(token, Token) else Token.parse(token))
        _set(self, "otherwise", _otherwise(otherwise))
        _set(self, "wait", _bounded("wait", wait))


ReadPolicy: TypeAlias = Fresh | Stale | AtLeast
#: The policies under which a replica may answer.
Declared: TypeAlias = Stale | AtLeast


def declared(read: object) -> Declared | None:
    """Return the policy when it lets replicas answer, None for the primary.

    :raises UnsupportedRead: for anything that is no read policy
    """
    if read is None or isinstance(read, Fresh):
        return None
    if isinstance(read, Stale | AtLeast):
        return read
    raise UnsupportedRead(
        f"read= takes Fresh(), Stale(…) or AtLeast(…), not {type(read).__name__}: leave it out to "
        "read from the primary"
    )


def _lag(max_lag: object, seconds: object) -> timedelta:
    if seconds is None:
        return _bounded("max_lag", max_lag)
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not 0 < seconds <= LONGEST_LAG.total_seconds():  # type: ignore[operator]
        raise InvalidInput(_no_bound("seconds", seconds))
    return timedelta(seconds=seconds)  # type: ignore[arg-type]


def _bounded(name: str, value: object) -> timedelta:
    if not isinstance(value, timedelta) or not timedelta(0) < value <= LONGEST_LAG:
        raise InvalidInput(_no_bound(name, value))
    return value


def _no_bound(name: str, value: object) -> str:
    return (
        f"{name}={value!r:.60} is no bound: give more than 0 and at most {LONGEST_LAG}; for an "
        "answer without age leave read= out, which reads from the primary"
    )


def _otherwise(value: object) -> Otherwise:
    if value not in get_args(Otherwise):
        raise InvalidInput(
            f"otherwise={value!r:.60} is not one of {', '.join(get_args(Otherwise))}"
        )
    return value  # type: ignore[return-value]


def _set(instance: object, name: str, value: Any) -> None:
    object.__setattr__(instance, name, value)
