"""Real dependency graphs hold circles; a task graph may not. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenantry_ops.demo.graph import Graph

if TYPE_CHECKING:
    from collections.abc import Iterator


def without_circles(graph: Graph) -> Graph:
    """Return a graph without the edges that close a circle, each found by walking along needs.

    What package managers do with packages that need each other, too: one of them goes first.
    """
    needs: dict[str, list[str]] = {name: [] for name in graph.names}
    for name, needed in graph.edges:
        needs[name].append(needed)
    closing = set(_closing(needs))
    kept = tuple(edge for edge in graph.edges if edge not in closing)
    return Graph(graph.source, graph.names, kept)


def _closing(needs: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    """Yield every edge that leads back to a task on the way that led here."""
    left: set[str] = set()
    for start in needs:
        on_way: dict[str, Iterator[str]] = {}
        here = start
        while here not in left:
            whats = on_way.setdefault(here, iter(needs[here]))
            for what in whats:
                if what in on_way:
                    yield here, what
                elif what not in left:
                    here = what
                    break
            else:
                left.add(here)
                del on_way[here]
                here = next(reversed(on_way), start)
