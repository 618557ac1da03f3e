"""Debian's package index as a graph: stanzas, alternatives, virtual packages (deb-control(5))."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIELDS = ("Package", "Depends", "Pre-Depends", "Provides")
_NAME = re.compile(r"\s*([a-z0-9][a-z0-9+.\-]*)")


def parse_index(text: str) -> dict[str, list[str]]:
    """Return what each package of an index depends on.

    Of alternatives the first that exists is taken, and for a virtual package its first provider.
    """
    stanzas = list(_stanzas(text))
    real = {stanza["Package"] for stanza in stanzas}
    providers: dict[str, str] = {}
    for stanza in stanzas:
        for alternatives in _relations(stanza.get("Provides", "")):
            for name in alternatives:
                providers.setdefault(name, stanza["Package"])
    needs: dict[str, list[str]] = {}
    for stanza in stanzas:
        fields = f"{stanza.get('Pre-Depends', '')},{stanza.get('Depends', '')}"
        its = needs.setdefault(stanza["Package"], [])
        for alternatives in _relations(fields):
            its.extend(_chosen(alternatives, real, providers))
    return needs


def _chosen(alternatives: list[str], real: set[str], providers: dict[str, str]) -> list[str]:
    for name in alternatives:
        if name in real:
            return [name]
    return [providers[name] for name in alternatives if name in providers][:1]


def _relations(field: str) -> Iterator[list[str]]:
    for clause in field.split(","):
        found = [_NAME.match(alternative) for alternative in clause.split("|")]
        names = [match[1] for match in found if match is not None]
        if names:
            yield names


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    for block in text.split("\n\n"):
        stanza: dict[str, str] = {}
        field = ""
        for line in block.splitlines():
            if line[:1] in {" ", "\t"}:
                if field:
                    stanza[field] += line
                continue
            name, colon, value = line.partition(":")
            field = name if colon and name in _FIELDS else ""
            if field:
                stanza[field] = value.strip()
        if stanza.get("Package"):
            yield stanza
