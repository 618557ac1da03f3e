"""``tenantry load``: what is refused before anything is started, and what is printed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tenantry_loadtest.judge import Fault, Finding, Verdict
from tenantry_ops.cli import load

WITHOUT_LOCUST = (
    "import sys; sys.modules['locust'] = None; from tenantry_ops.cli import main; main()"
)
UNPATCHED = """
import sys, socket
from tenantry_ops.cli import load
print({"locust", "gevent"} & set(sys.modules), socket.socket.__module__)
"""


@pytest.mark.slow
def test_without_locust_the_extra_is_named():
    """A call that cannot be: 2, and what to install."""
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_LOCUST, "load", "smoke"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "tenantry[load]" in ended.stderr


@pytest.mark.slow
def test_the_command_stays_unpatched():
    """Only the process that drives the load imports gevent."""
    ended = subprocess.run(
        [sys.executable, "-c", UNPATCHED], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "set() socket\n"


@pytest.mark.parametrize(
    ("verdict", "code", "said"),
    [
        (Verdict(1, 0, 0, 0, ()), None, "every acknowledged write is there once"),
        (Verdict(0, 0, 0, 0, ()), 1, "proves nothing"),
        (Verdict(1, 0, 0, 0, (Finding(Fault.MISSING, "k", "d"),)), 1, "a promise was broken"),
    ],
)
def test_what_a_verdict_means(capsys, verdict, code, said):
    """1 for a broken promise, and for a run that could have broken none."""
    given = verdict.as_dict()
    if code is None:
        load._conclude(given)
    else:
        with pytest.raises(load.typer.Exit) as exited:
            load._conclude(given)
        assert exited.value.exit_code == code
    load._print_verdict(given)
    printed = capsys.readouterr()
    assert said in printed.err
    assert all(it["key"] in printed.out and it["fault"] in printed.out for it in given["findings"])
