"""What a caller learns of how it was served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantry.errors import InvalidInput

if TYPE_CHECKING:
    from tenantry.tokens import Token


@dataclass(slots=True)
class Receipt:
    """How a call was served; filled in while it runs.

    :ivar node: the node that answered, as ``host:port/database``
    :ivar role: ``"primary"`` or ``"replica"``
    :ivar bound_ms: the answer's age at most, in milliseconds, when the call began; 0 on the
        primary, None when a token was asked for and no age is known
    :ivar map_version: the version of the map that routed it
    :ivar fallback: whether the primary answered because no replica qualified
    :ivar waited_ms: how long a replica was waited for
    """

    node: str | None = None
    role: str | None = None
    bound_ms: float | None = None
    map_version: int | None = None
    fallback: bool = False
    waited_ms: float = 0.0
    _token: Token | None = None

    def committed(self, token: Token) -> None:
        """Take in where the commit stands."""
        self._token = token

    @property
    def token(self) -> Token:
        """Where the commit stands: for a call with ``token=True``, after its COMMIT.

        :raises InvalidInput: when it was not asked for, or nothing was committed yet
        """
        if self._token is None:
            raise InvalidInput(
                "there is no token: ask for it with token=True, and read it after the commit"
            )
        return self._token
