"""The reference of the errors has every error once, with what to do about it."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import tenantry
import tenantry.errors
from tenantry.retry import Attempts
from tenantry_schema import errors as tree

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "errors.md").read_text()
ALL = {
    name: it
    for name, it in vars(tree).items()
    if isinstance(it, type) and issubclass(it, tree.TenantryError)
}
ROWS = [
    (re.findall(r"\w+", names), again, what)
    for names, again, what in re.findall(
        r"^\| (`\w+`(?:, `\w+`)*) \| .+ \| (.+) \| (.+) \|$", PAGE, re.MULTILINE
    )
]
LISTED = [name for names, _, _ in ROWS for name in names]
#: What is only raised as one of those below it.
BASES = {"Conflict", "TenantryError", "Unavailable"}


def test_every_error_has_one_row():
    """Bases are named above their tables."""
    assert sorted(LISTED) == sorted(ALL.keys() - BASES)
    assert all(f"`{it}`" in PAGE for it in BASES)


def test_an_error_says_whether_the_call_may_be_made_again():
    """By the words that the page explains."""
    assert all(re.match(r"(yes|yes, `run` does|later|no|ask)$", again) for _, again, _ in ROWS)


def test_what_run_repeats_is_what_the_page_says():
    """Asked of what decides it, about each error."""
    call = SimpleNamespace(remaining=60.0, committed=False)
    repeated = {
        name for name, it in ALL.items() if Attempts(5).pause_after(it("x"), call) is not None
    }
    assert repeated == {name for names, again, _ in ROWS for name in names if "`run`" in again}


def test_services_can_import_every_error():
    """From one place; what the package itself has is the same."""
    assert set(tenantry.errors.__all__) == ALL.keys()
    assert all(getattr(tenantry, it) is ALL[it] for it in tenantry.__all__ if it in ALL)
