"""Change which node of a shard is its primary, and say what its commits survive."""

from __future__ import annotations

from tenantry_ops.failover.gate import Gate
from tenantry_ops.failover.hands import FleetHands, Hands, NoHands
from tenantry_ops.failover.perform import Outcome
from tenantry_ops.failover.run import failover, rewire, switchover

__all__ = [
    "FleetHands",
    "Gate",
    "Hands",
    "NoHands",
    "Outcome",
    "failover",
    "rewire",
    "switchover",
]
