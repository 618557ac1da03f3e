"""Bring files into force: in place, RELOAD, read back; and back again when that went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenantry_ops.bouncer.files import put_files
from tenantry_ops.bouncer.readback import Mismatch, compare
from tenantry_schema.errors import BouncerError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tenantry_ops.bouncer.console import Console
    from tenantry_ops.bouncer.ini import Ini


def put_in_force(
    console: Console, directory: Path, files: Mapping[str, bytes], ini: Ini
) -> list[Mismatch]:
    """Put files in place and let PgBouncer read them; return what waits for a restart.

    :param files: file name -> text, the configuration last
    :param ini: the configuration among them
    :raises BouncerError: when PgBouncer does not run as it says; the former files are back then
    """
    replaced = put_files(directory, files)
    try:
        console.reload()
        return verified(console, ini)
    except BaseException as error:
        replaced.restore()
        try:
            console.reload()
        except BouncerError as failure:
            error.add_note(f"The former files are back, but were not read again: {failure}")
        raise


def verified(console: Console, ini: Ini) -> list[Mismatch]:
    """Compare what runs with a configuration; return what waits for a restart.

    :raises BouncerError: naming what else differs
    """
    found = read_back(console, ini)
    wrong = [it for it in found if not it.restart]
    if wrong:
        listed = "; ".join(f"{it.where} is {it.found!r}, not {it.expected!r}" for it in wrong)
        raise BouncerError(
            f"after RELOAD the PgBouncer at {console.where} does not run as its file says "
            f"({listed}): the former files are back; its log says what it could not read"
        )
    return found


def read_back(console: Console, ini: Ini) -> list[Mismatch]:
    """Return where what runs differs from a configuration."""
    return compare(ini, console.show("CONFIG"), console.show("DATABASES"), console.version)
