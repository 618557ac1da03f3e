"""Every command that a page shows exists, and so do the options that it is given."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tenantry_ops.cli.reference import every_command

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = every_command()
#: In a console, where a line may go on behind a backslash; and set as code in a sentence.
SHOWN = re.compile(r"^\$ (?:\w+ run )?(tenantry (?:.*\\\n)*.*)$|`(tenantry [^`]+)`", re.MULTILINE)


def _shown(page):
    text = re.sub(
        r"^```(?:python|sql|yaml|text)\n.*?```",
        "",
        page.read_text(),
        flags=re.MULTILINE | re.DOTALL,
    )
    for console, inline in SHOWN.findall(text):
        yield re.sub(r"\s+", " ", (console or inline).replace("\\\n", " "))


CALLS = [
    pytest.param(call, id=f"{page.relative_to(ROOT)}: {call[:60]}")
    for page in PAGES
    for call in dict.fromkeys(_shown(page))
]


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_a_page_shows_can_be_made(call):
    """The longest name of a command that it begins with, and options of that command."""
    words = shlex.split(call, comments=True)[1:]
    # `tenantry fleet up|down|status` names three commands.
    for name in _names(words):
        command = COMMANDS[name]
        allowed = {opt for it in command.params for opt in (*it.opts, *it.secondary_opts)}
        given = {it.partition("=")[0] for it in words if it.startswith("--")}
        assert given - {"--help"} <= allowed


def _names(words):
    if words[0].startswith("--"):
        return
    names = [""]
    for word in words:
        longer = [f"{name} {it}".strip() for name in names for it in word.split("|")]
        if not all(it in COMMANDS for it in longer):
            break
        names = longer
    assert names != [""], f"there is no command {words[0]}"
    for name in names:
        below = getattr(COMMANDS[name], "commands", {})
        further = words[len(name.split()) :]
        assert not below or not further, f"{name} has no command {further}"
        yield name
