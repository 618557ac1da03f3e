"""What happened: ``router.run(history.of_task(acme, task, since=…, until=…), tenant=acme)``."""

from __future__ import annotations

from tenantry_schema.store.history import Log, NewLog, Transition, log, logs, of_task, transitions

__all__ = ["Log", "NewLog", "Transition", "log", "logs", "of_task", "transitions"]
