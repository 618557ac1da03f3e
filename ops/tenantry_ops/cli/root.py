"""``tenantry``: the commands, and what an error looks like to a person.

Exit codes: 0 for success, 1 when a command found or met a problem, 2 for a call that cannot be, and
128 + the signal's number when it was interrupted.
"""

from __future__ import annotations

import signal
import sys
import traceback
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from tenantry_ops.cli.console import errors
from tenantry_ops.cli.lazy import LazyGroup
from tenantry_schema.errors import InvalidInput, TenantryError

if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

app = typer.Typer(
    name="tenantry",
    cls=LazyGroup,
    help="Route a multi-tenant service's work over ordinary Postgres.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_state = {"debug": False}


@app.callback(invoke_without_command=True)
def _root(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="TENANTRY_DEBUG", help="Show an error's traceback.")
    ] = False,
) -> None:
    if show_version:
        typer.echo(f"tenantry {version('tenantry')}")
        raise typer.Exit
    _state["debug"] = debug


def main() -> None:
    """Run the command line; print what tenantry refuses or misses as one message."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app()
    except Exception as error:
        message = _message(error)
        if message is None:
            raise
        if _state["debug"]:
            traceback.print_exception(error)
        errors.print(f"[bold red]{type(error).__name__}[/]: {escape(message)}", soft_wrap=True)
        sys.exit(2 if isinstance(error, InvalidInput) else 1)


def _message(error: Exception) -> str | None:
    """Return what a person is told of an error, or None when it is a fault of ours."""
    if isinstance(error, TenantryError):
        return str(error)
    psycopg = sys.modules.get("psycopg")
    if psycopg is not None and isinstance(error, psycopg.Error):
        return f"{str(error).strip()} (Postgres, SQLSTATE {error.sqlstate or 'none'})"
    if isinstance(error, OSError) and error.filename is not None:
        return str(error)
    return None


def _terminated(number: int, _frame: FrameType | None) -> NoReturn:
    # Everything that was opened is closed on the way out, as for Ctrl-C.
    sys.exit(128 + number)
