"""The reference of the commands is what the commands are."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from tenantry_ops.cli.reference import every_command, page

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "commands.md"
CALLED = {name: it for name, it in every_command().items() if not hasattr(it, "commands")}


def test_the_page_is_what_is_generated(monkeypatch):
    """Made anew with `python -m tenantry_ops.cli.reference >docs/reference/commands.md`."""
    monkeypatch.setenv("TENANTRY_DIR", "/not/a/default")
    assert PAGE.read_text() == page()


def test_every_parameter_is_described():
    """Whoever reads the page, or `--help`, learns what each is."""
    silent = {
        (name, it.name) for name, command in CALLED.items() for it in command.params if not it.help
    }
    assert silent == set()


@pytest.mark.parametrize("name", CALLED)
def test_every_answer_may_be_json(name):
    """A program reads any command's answer; there is none that has no answer."""
    assert ["--json"] in [it.opts for it in CALLED[name].params]


@pytest.mark.parametrize("name", CALLED)
def test_an_exit_code_of_ones_own_is_described(name):
    """Where a command raises one, its description says what it means."""
    command = CALLED[name]
    if any("typer.Exit" in it for it in _sources(inspect.unwrap(command.callback), set())):
        assert "exit" in command.help.lower()


def _sources(function, seen):
    """The function's text, and that of the functions of its module that it calls."""
    seen.add(function)
    text = inspect.getsource(function)
    yield text
    for it in ast.walk(ast.parse(text)):
        if isinstance(it, ast.Call) and isinstance(it.func, ast.Name):
            used = function.__globals__.get(it.func.id)
            if getattr(used, "__module__", None) == function.__module__ and used not in seen:
                yield from _sources(used, seen)
