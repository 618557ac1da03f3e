"""Actors of a tenant: ``router.run(actors.activate(acme, actor), tenant=acme)``."""

from __future__ import annotations

from tenantry_schema.store.actors import (
    Actor,
    Recovery,
    activate,
    get,
    recover,
    register,
    save,
)
from tenantry_schema.store.rows import Unfinished

__all__ = ["Actor", "Recovery", "Unfinished", "activate", "get", "recover", "register", "save"]
