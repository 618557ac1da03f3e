"""The page ``docs/reference/commands.md``, from the commands themselves.

``python -m tenantry_ops.cli.reference`` prints it; a test compares it with what is committed.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_type_hints

from typer.main import get_command

from tenantry_ops.cli.lazy import COMMANDS, Command, load
from tenantry_ops.cli.root import app

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_HEAD = """# Commands

Made by `python -m tenantry_ops.cli.reference`: change the commands, not this page.

Commands find the fleet by `--catalog` (or `TENANTRY_CATALOG`), else by `--dir` (or `TENANTRY_DIR`),
else in `.tenantry`. An environment variable, named at its option, counts where the option is not
given. What a command answers goes to standard output, what it says about itself to standard error.
Server programs are looked for in `TENANTRY_PG_BIN` first, then in the wheel of the extra
`embedded`, on `PATH`, in the system's versioned folders, and in the wheel that was fetched into the
user's cache (`XDG_CACHE_HOME`). `TENANTRY_PG_BIN=embedded` means that wheel, installed or fetched,
and nothing of the system. PgBouncer is looked for at `TENANTRY_PGBOUNCER`.

| exit code | means |
|---|---|
| 0 | it is done, or all is well |
| 1 | it found or met a problem: [the error's](errors.md) name, its reason, what to do next |
| 2 | a call that cannot be: a wrong option, or a value that was refused before anything happened |
| 128 + *n* | it was ended by signal *n*; what it started was closed |

Where a command's exit code means more, its description says so.
"""

#: Options that mean the same for most commands are described once, as this command has them.
_COMMON = "doctor"

_HOWTO = {
    "fleet": "../tutorial.md",
    "init": "../howto/existing-postgres.md",
    "migrate": "../howto/migrations.md",
    "schema": "../howto/migrations.md",
    "shard": "../howto/failover.md",
    "partitions": "../howto/partitions.md",
    "partitions archive": "../howto/archive.md",
    "partman": "../howto/partitions.md",
    "bouncer": "../howto/pgbouncer.md",
    "load": "../howto/load.md",
}

_WORDS = {bool: "", int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH", datetime: "TIME"}
_WIDTH = 96


class _Parameter(NamedTuple):
    """What is said of an argument or an option.

    :ivar words: as in the usage
    :ivar row: of the table
    """

    words: str
    row: tuple[str, str, str]


def every_command() -> dict[str, Command]:
    """Return the commands by their names as they are called, groups before what is in them."""
    return {name: it for top in COMMANDS for name, it in _tree(top, load(top))}


def page() -> str:
    """Return the text of the page."""
    found = every_command()
    common = _parameters(found[_COMMON])
    listed = ((f"[`{name}`](#{_anchor(name)})", _line(it)) for name, it in found.items())
    known = {it.row for it in common}
    return "\n".join(
        (
            _HEAD,
            _table(("command", "does"), listed),
            "## Options of all commands\n",
            "Before a command's name:\n",
            _options(_parameters(get_command(app))),
            "Behind it, where its usage names them:\n",
            _options(common),
            *(_section(name, it, known) for name, it in found.items()),
        )
    )


def _tree(name: str, command: Command) -> Iterator[tuple[str, Command]]:
    yield name, command
    for below, it in getattr(command, "commands", {}).items():
        yield from _tree(f"{name} {below}", it)


def _anchor(name: str) -> str:
    return f"tenantry-{name.replace(' ', '-')}"


def _line(command: Command) -> str:
    return str(command.help).strip().splitlines()[0].rstrip(".")


def _section(name: str, command: Command, known: set[tuple[Any, ...]]) -> str:
    level = "###" if " " in name else "##"
    more = f" [How to]({_HOWTO[name]})." if name in _HOWTO else ""
    parts = [f"{level} tenantry {name}\n", f"{str(command.help).strip()}{more}\n"]
    if not hasattr(command, "commands"):
        listed = _parameters(command)
        parts.append(f"```text\n{_usage(name, listed)}\n```\n")
        own = [it for it in listed if it.row not in known]
        parts += [_options(own)] if own else []
    return "\n".join(parts)


def _parameters(command: Command) -> list[_Parameter]:
    hints = get_type_hints(command.callback, include_extras=True)
    return [_parameter(it, hints.get(it.name, bool)) for it in command.params]


def _parameter(param: Any, hint: Any) -> _Parameter:
    """Describe a parameter, whose annotation says what kind of value it takes."""
    info = next((it for it in getattr(hint, "__metadata__", ()) if hasattr(it, "min")), None)
    value = param.metavar or _word(hint)
    if param.param_type_name == "argument":
        words = shown = f"{param.name.upper()}{'…' if param.nargs == -1 else ''}"
    else:
        shown = " / ".join((*param.opts, *param.secondary_opts))
        words = f"{param.opts[0]} {value}".strip()
        shown = f"{shown} {value}".strip() + ("…" if param.multiple else "")
    about = " ".join(filter(None, (param.help, _range(info), param.envvar and f"`{param.envvar}`")))
    row = (f"`{shown}`".replace("|", r"\|"), _default(param), about)
    return _Parameter(words if param.required else f"[{words}]", row)


def _word(hint: Any) -> str:
    inner = get_args(hint) or (hint,)
    kind = next(it for it in inner if it is not NoneType)
    if kind in _WORDS:
        return _WORDS[kind]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(str(it.value) for it in kind)
    return _word(kind)


def _range(info: Any) -> str:
    least, most = getattr(info, "min", None), getattr(info, "max", None)
    if most is not None:
        return f"{least} to {most}."
    return "" if least is None else f"At least {least}."


def _default(param: Any) -> str:
    value = getattr(param.default, "value", param.default)
    return "" if value is None or value is False or value == "" else f"`{value}`"


def _usage(name: str, listed: list[_Parameter]) -> str:
    lines = [f"tenantry {name}"]
    # Arguments come first, as they are written.
    for it in sorted(listed, key=lambda it: it.words.lstrip("[").startswith("-")):
        if len(lines[-1]) + len(it.words) > _WIDTH:
            lines.append("   ")
        lines[-1] += f" {it.words}"
    return "\n".join(lines)


def _options(listed: Iterable[_Parameter]) -> str:
    return _table(("option", "default", "what it is"), (it.row for it in listed))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    first, *others = (f"| {' | '.join(line)} |\n" for line in (head, *rows))
    return "".join((first, f"|{'---|' * len(head)}\n", *others))


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201  the page is the answer
