"""Flows over many tenants, as generators of steps: written once, performed by both doors.

A :data:`~tenantry_schema.query.Work` is one transaction of one tenant; a flow is what a worker does
with several of them. An error of a step is thrown into the flow, which may answer it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future
    from uuid import UUID

    from tenantry.aio import AsyncRouter
    from tenantry.router import Router
    from tenantry_schema.query import WorkFactory

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Run:
    """Run a work for a tenant; gives its result."""

    tenant: UUID
    work: WorkFactory[Any]


@dataclass(frozen=True, slots=True)
class Sweep:
    """Ask every shard who has something to do; gives a ``ScatterResult``."""

    queues: Sequence[str]


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Landing:
    """Wait until something is told, for so long at most."""

    told: Future[Any]
    seconds: float


Step: TypeAlias = Run | Sweep | Pause | Landing
Flow: TypeAlias = Generator[Step, Any, T]


def perform(router: Router, flow: Flow[T]) -> T:
    """Perform a flow in this thread."""
    try:
        step = next(flow)
        while True:
            try:
                result = _do(router, step)
            except Exception as error:
                if isinstance(error.__cause__, KeyboardInterrupt):
                    # Whoever interrupts a COMMIT is told that; no flow goes on from it.
                    raise error.__cause__ from error
                step = flow.throw(error)
            else:
                step = flow.send(result)
    except StopIteration as stop:
        value: T = stop.value
        return value
    finally:
        # It may be ended by what it cannot answer, and others wait for it.
        flow.close()


async def aperform(router: AsyncRouter, flow: Flow[T]) -> T:
    """Perform a flow in this task."""
    try:
        step = next(flow)
        while True:
            try:
                result = await _ado(router, step)
            except Exception as error:
                current = asyncio.current_task()
                if current is not None and current.cancelling():
                    # Whoever is cancelled within a COMMIT is told that; no flow goes on from it.
                    raise asyncio.CancelledError from error
                step = flow.throw(error)
            else:
                step = flow.send(result)
    except StopIteration as stop:
        value: T = stop.value
        return value
    finally:
        # It may be ended by what it cannot answer, and others wait for it.
        flow.close()


def _do(router: Router, step: Step) -> Any:
    if isinstance(step, Run):
        return router.run(step.work, tenant=step.tenant)
    if isinstance(step, Sweep):
        return router.sweep(step.queues)
    if isinstance(step, Landing):
        with suppress(TimeoutError):
            step.told.result(step.seconds)
    else:
        time.sleep(step.seconds)
    return None


async def _ado(router: AsyncRouter, step: Step) -> Any:
    if isinstance(step, Run):
        return await router.run(step.work, tenant=step.tenant)
    if isinstance(step, Sweep):
        return await router.sweep(step.queues)
    if isinstance(step, Landing):
        await asyncio.wait([asyncio.wrap_future(step.told)], timeout=step.seconds)
    else:
        await asyncio.sleep(step.seconds)
    return None
