"""Write, check and steer PgBouncers in front of a fleet."""

from __future__ import annotations

from tenantry_ops.bouncer.pause import Paused, paused
from tenantry_ops.bouncer.pausing import resume_all
from tenantry_ops.bouncer.pooler import Pooler

__all__ = ["Paused", "Pooler", "paused", "resume_all"]
