"""The main job, on real input: what a new user sees first."""

from __future__ import annotations

from tenantry_ops.demo.graph import Graph, read_graph
from tenantry_ops.demo.run import DemoOptions, run_demo

__all__ = ["DemoOptions", "Graph", "read_graph", "run_demo"]
