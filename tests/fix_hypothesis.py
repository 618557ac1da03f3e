"""How properties are tested: a slow moment of the machine is not a counterexample."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("tenantry", deadline=None)
settings.load_profile("tenantry")
