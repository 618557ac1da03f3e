"""The steps that a switchover, a failover or a rewiring is made of: values, in no colour."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Do(StrEnum):
    """What a step does to its node."""

    CHECKPOINT = "checkpoint"
    PAUSE = "pause clients"
    STOP = "stop cleanly"
    CLOSE = "close to writes"
    FENCE = "end and keep from writing"
    CATCH_UP = "catch up"
    PROMOTE = "promote"
    CERTIFY = "certify"
    RESUME = "lead clients to"
    REWIRE = "make a replica"
    START = "start again"
    OPEN = "open to writes"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, and the node that it is done to.

    :ivar source: whom it catches up with
    """

    do: Do
    node: str
    source: str = ""

    def __str__(self) -> str:
        return f"{self.do} {self.node}"
