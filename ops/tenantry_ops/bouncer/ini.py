"""``pgbouncer.ini`` as PgBouncer itself reads it (cfparser.c), which is not as other ini files are.

A value is everything to the end of its line: quotes and trailing comments are part of it. A section
may go on behind its header's bracket. What cannot be read ends the reading: everything before is in
force, every later key of ``[pgbouncer]`` falls back to its default. So :func:`parse_ini` says what
is wrong instead of guessing, and :func:`render_ini` writes only what reads back the same. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAIN = "pgbouncer"
DATABASES = "databases"

#: What isspace() takes in the C locale.
_SPACE = " \t\n\v\f\r"
_KEY = re.compile(r"[A-Za-z0-9_.*-]+")
_HEADER = re.compile(r"\[([^\]\n]*)\]")
_INCLUDE = re.compile(r"%include[ \t]")
_PLAIN = re.compile(r"([A-Za-z0-9_.*-]*)[ \t]*=[ \t]*")
_QUOTED = re.compile(r"'([^']+)'[ \t]*=[ \t]*")
_SECTION = re.compile(r"[a-z_]+\Z")


class Entry(NamedTuple):
    """One ``key = value``, and the line that it begins on."""

    section: str
    key: str
    value: str
    line: int = 0


class Header(NamedTuple):
    """One ``[section]``."""

    name: str
    line: int


class Fault(NamedTuple):
    """What ended the reading, or a line that was read as something else than it looks like."""

    line: int
    problem: str


@dataclass(frozen=True, slots=True)
class Ini:
    """A configuration file.

    :ivar fault: what PgBouncer stops at, or None when it reads the whole file
    :ivar quoted: lines whose key stands in single quotes
    """

    entries: tuple[Entry, ...] = ()
    headers: tuple[Header, ...] = ()
    fault: Fault | None = None
    quoted: tuple[int, ...] = ()

    @classmethod
    def of(cls, sections: Mapping[str, Mapping[str, str]]) -> Ini:
        """Make one of section -> key -> value."""
        entries = (
            Entry(section, key, value)
            for section, values in sections.items()
            for key, value in values.items()
        )
        return cls(tuple(entries), tuple(Header(name, 0) for name in sections))

    def section(self, name: str) -> dict[str, str]:
        """Return key -> value of a section; of a key that is given twice, the last."""
        return {it.key: it.value for it in self.entries if it.section == name}

    def sections(self) -> dict[str, dict[str, str]]:
        """Return section -> key -> value."""
        named = dict.fromkeys([MAIN, DATABASES, *(it.name for it in self.headers)])
        return {name: self.section(name) for name in named}


def parse_ini(text: str) -> Ini:
    """Read a file as PgBouncer does; what it stops at is the result's fault."""
    return _Reading(text).read()


def render_ini(ini: Ini, *, head: Iterable[str] = ()) -> str:
    """Write a file that reads back the same.

    :param head: lines of the comment at its top
    :raises InvalidConfig: naming a section, a key or a value that no line can hold
    """
    lines = [f"; {line}" for line in head]
    for name, values in ini.sections().items():
        if not _SECTION.match(name):
            raise InvalidConfig(f"pgbouncer.ini has no section {name!r:.60}")
        lines += ["", f"[{name}]"]
        for key, value in values.items():
            check_line(name, key, value)
            lines.append(f"{key} = {value}" if value else f"{key} =")
    return "\n".join(lines) + "\n"


def check_line(section: str, key: str, value: str) -> None:
    """Refuse what a line cannot hold.

    :raises InvalidConfig: naming the key; never the value, which may hold a password
    """
    if not _KEY.fullmatch(key):
        raise InvalidConfig(
            f"[{section}] {key!r:.80}: PgBouncer's names are of A-Z, a-z, 0-9, '_', '.', '-'"
        )
    if value.strip(_SPACE) != value or "\n" in value or "\0" in value:
        raise InvalidConfig(
            f"[{section}] {key}: a value ends with its line and loses its outer spaces, so it can "
            "hold no line break, no NUL, and no space at either end"
        )


class _Reading:
    def __init__(self, text: str) -> None:
        # C stops at the first NUL.
        self._text, self._nul, _ = text.partition("\0")
        self._at = 0
        self._section: str | None = None
        self._entries: list[Entry] = []
        self._headers: list[Header] = []
        self._quoted: list[int] = []
        self._fault: Fault | None = None

    def read(self) -> Ini:
        while self._fault is None and self._skip_space():
            self._step()
        if self._nul and self._fault is None:
            self._stop("holds a NUL character: what follows it is not read")
        return Ini(tuple(self._entries), tuple(self._headers), self._fault, tuple(self._quoted))

    def _step(self) -> None:
        head = self._text[self._at]
        if head in "#;":
            self._rest_of_line()
        elif _INCLUDE.match(self._text, self._at):
            self._stop("includes another file, which is not looked into: put its lines here")
        elif head == "[":
            self._header()
        else:
            self._entry()

    def _header(self) -> None:
        found = _HEADER.match(self._text, self._at)
        if found is None:
            self._stop("opens a section and does not close it")
            return
        self._section = found[1]
        self._headers.append(Header(found[1], self._line()))
        self._at = found.end()

    def _entry(self) -> None:
        line = self._line()
        quoted = _QUOTED.match(self._text, self._at)
        found = quoted or _PLAIN.match(self._text, self._at)
        if found is None:
            self._stop("is neither 'key = value' nor a section")
        elif self._section is None:
            self._stop("stands before the first section")
        else:
            if quoted:
                self._quoted.append(line)
            self._at = found.end()
            value = self._rest_of_line().rstrip(_SPACE)
            self._entries.append(Entry(self._section, found[1], value, line))

    def _rest_of_line(self) -> str:
        end = self._text.find("\n", self._at)
        end = len(self._text) if end < 0 else end
        rest, self._at = self._text[self._at : end], end
        return rest

    def _skip_space(self) -> bool:
        while self._at < len(self._text) and self._text[self._at] in _SPACE:
            self._at += 1
        return self._at < len(self._text)

    def _line(self) -> int:
        return self._text.count("\n", 0, self._at) + 1

    def _stop(self, problem: str) -> None:
        self._fault = Fault(self._line(), problem)
