"""``tenantry partitions``: time partitions of a fleet, or of any database with ``--dsn``."""

from __future__ import annotations

import typer

from tenantry_ops.cli.partitions.archive import app as archive_app
from tenantry_ops.cli.partitions.partman import adopt, export_partman
from tenantry_ops.cli.partitions.plan import plan
from tenantry_ops.cli.partitions.policy import app as policy_app
from tenantry_ops.cli.partitions.rollover import rollover, units

app = typer.Typer(
    help="Make time partitions ahead, and retire old ones, at nobody's expense.",
    no_args_is_help=True,
)
app.command()(plan)
app.command()(rollover)
app.command()(units)
app.command()(adopt)
app.command()(export_partman)
app.add_typer(archive_app, name="archive")
app.add_typer(policy_app, name="policy")
