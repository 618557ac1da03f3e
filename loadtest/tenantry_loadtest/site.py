"""Where a load run happens: on a fleet of its own, or as a guest on one that is there."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tenantry_loadtest.journal import Journal
from tenantry_loadtest.seats import remove_seats
from tenantry_ops.cluster import read_places
from tenantry_ops.fleet import passing_fleet
from tenantry_ops.initialise import embedded_plan, initialise
from tenantry_schema.errors import InvalidConfig, TenantryError
from tenantry_schema.naming import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tenantry_loadtest.history import Run
    from tenantry_ops.interrupts import Interrupts
    from tenantry_ops.steps import Step

_BUCKETS = 16


@dataclass(slots=True)
class Site:
    """A fleet, and the file of the run's record.

    :ivar catalog: the catalog's conninfo as ``tenantry_operator``
    :ivar wanted: whether what the run wrote must stay, because it is still to be looked at
    """

    catalog: str
    record: Path
    wanted: bool = False


@contextmanager
def own_fleet(run: Run, record: Path | None, interrupts: Interrupts, step: Step) -> Iterator[Site]:
    """Give an embedded fleet that is gone at the end, and with it what the run wrote.

    :param record: a file that stays, or None
    """
    with passing_fleet(None, interrupts, step) as fleet:
        initialise(embedded_plan(fleet, buckets=_BUCKETS), progress=lambda what: step(what, 0, 1))
        path = record or fleet.directory / "record.jsonl"
        Journal.create(path, run).close()
        yield Site(fleet.catalog_conninfo(OPERATOR), path)


@contextmanager
def guest(run: Run, record: Path | None, interrupts: Interrupts, catalog: str) -> Iterator[Site]:
    """Give a fleet that is there; take away at the end what the run wrote, unless it is wanted.

    :raises InvalidConfig: when the fleet does not hold the shipped tables
    """
    places = read_places(catalog)
    if places.models is not None:
        raise InvalidConfig(
            f"the load test writes to the shipped tables; this fleet holds {places.models!r}: run "
            "it without --dir and --catalog, on a fleet of its own"
        )
    site = Site(catalog, record or Path(f"{run.name}.jsonl"))
    Journal.create(site.record, run).close()
    try:
        yield site
    except SystemExit:
        site.wanted = False
        raise
    except TenantryError as error:
        if site.wanted:
            raise TenantryError(
                f"{error}; what was written is there still: `tenantry load judge {site.record}`"
            ) from error
        raise
    finally:
        interrupts.shield()
        if not site.wanted:
            remove_seats(catalog, places, run)
            if record is None:
                site.record.unlink()
