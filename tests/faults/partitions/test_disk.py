"""A disk that is full in the middle of a rollover."""

from __future__ import annotations

import re
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from fix_fleet import server_folder
from fix_partitions import daily

pytestmark = pytest.mark.slow

_SYS_ADMIN = 21
THERE = "SELECT count(*) FROM pg_class WHERE relname ~ '^events_p[0-9]{8}$'"


def _may_mount():
    capabilities = re.search(r"CapEff:\s+([0-9a-f]+)", Path("/proc/self/status").read_text())[1]
    return bool(int(capabilities, 16) >> _SYS_ADMIN & 1)


# A disk of its own, to be filled up, needs the right to mount one: root has it.
__test__ = _may_mount()


@contextmanager
def mounted(size, owner):
    with server_folder() as folder:
        folder.mkdir(parents=True, exist_ok=True)
        options = f"size={size},uid={owner},mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_is_full_while_partitions_are_made(alone):
    """Said by name; what was made stays, nothing is half made, and with room it goes on."""
    ((data,),) = alone.run("SHOW data_directory")
    with mounted("1m", Path(data).stat().st_uid) as folder:
        filler = folder / "filler"
        alone.run(
            f"CREATE TABLESPACE tiny LOCATION '{folder}'",
            "ALTER DATABASE partitioned SET default_tablespace = 'tiny'",
        )
        filler.write_bytes(bytes(900_000))
        try:
            report = alone.roll_over(daily(premake=20))
            assert "No space left on device" in report.error
            assert "SQLSTATE 53100" in report.error
            made = alone.partitions()
            assert 0 < len(made) == len(report.outcomes) < 22
            assert alone.run(THERE) == [(len(made),)]
            filler.unlink()
            again = alone.roll_over(daily(premake=20))
            assert (again.error, again.ahead) == (None, 20)
        finally:
            alone.run("ALTER DATABASE partitioned RESET default_tablespace", "DROP TABLE events")
            alone.run("DROP TABLESPACE tiny")
