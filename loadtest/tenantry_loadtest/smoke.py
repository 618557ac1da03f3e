"""Drive a short load, then judge it against the databases."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import make_conninfo

from tenantry.conninfo import parse
from tenantry_loadtest.final_state import homes, read_final_state
from tenantry_loadtest.journal import read_history
from tenantry_loadtest.judge import judge
from tenantry_loadtest.plan import Drive
from tenantry_loadtest.process import run_drive
from tenantry_loadtest.seats import make_seats, plan_run, remove_seats
from tenantry_loadtest.site import guest, own_fleet
from tenantry_ops.cluster import read_places
from tenantry_ops.interrupts import Interrupts
from tenantry_schema.naming import APP

if TYPE_CHECKING:
    from pathlib import Path

    from tenantry_loadtest.history import Run
    from tenantry_loadtest.judge import Verdict
    from tenantry_loadtest.plan import LoadOptions
    from tenantry_loadtest.site import Site
    from tenantry_ops.steps import Step


def run_smoke(
    options: LoadOptions, step: Step, *, catalog: str | None = None, record: Path | None = None
) -> dict[str, Any]:
    """Run a load and judge it; return its summary.

    SIGINT and SIGTERM end it between two steps with :class:`SystemExit`; nothing is left behind.

    :param catalog: of a fleet that is there, as ``tenantry_operator``; None makes a passing one
    :param record: a new file that keeps the run's record
    :raises InvalidConfig: when the fleet does not hold the shipped tables, or the file is there
    :raises TenantryError: when the load could not be driven
    """
    run = plan_run(options.seed, options.tenants)
    with Interrupts() as interrupts:
        checked = interrupts.between(step)
        where = (
            own_fleet(run, record, interrupts, checked)
            if catalog is None
            else guest(run, record, interrupts, catalog)
        )
        with where as site:
            summary = _on_site(site, run, options, checked)
    kept = record or (site.record if site.wanted else None)
    return {**summary, "record": None if kept is None else str(kept)}


def judge_record(catalog: str, record: Path, *, remove: bool = False) -> Verdict:
    """Judge the record of a run against the databases, also of one that was killed.

    :param remove: take the run's tenants away, when every write is as its user was told
    """
    history = read_history(record)
    places = read_places(catalog)
    found = read_final_state(places, history.run)
    verdict = judge(history, found, homes(places, history.run))
    if remove and verdict.clean:
        remove_seats(catalog, places, history.run)
    return verdict


def _on_site(site: Site, run: Run, options: LoadOptions, step: Step) -> dict[str, Any]:
    # A service connects as itself, with a password from libpq's own places.
    who = {**parse(site.catalog), "user": APP, "password": None}
    service = make_conninfo(**who)
    make_seats(site.catalog, service, run, step)
    site.wanted = True
    driven = run_drive(Drive(service, str(site.record), options.seconds, options.users), step)
    step("judge", 0, 1)
    verdict = judge_record(site.catalog, site.record)
    site.wanted = not verdict.clean
    return {"run": run.name, **asdict(options), **driven, "verdict": verdict.as_dict()}
