"""Long files first: the many short ones fill what is left of each process's time."""

from __future__ import annotations


def pytest_collection_modifyitems(items):
    """Put files that hold slow tests first, and those without servers last."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, "unit" in item.path.parts))
