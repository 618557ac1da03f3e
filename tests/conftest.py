from __future__ import annotations

pytest_plugins = [
    "fix_hypothesis",
    "fix_fleet",
    "fix_blank",
    "fix_router",
    "fix_bouncer",
    "fix_commits",
    "fix_cli",
    "fix_compose",
    "fix_processes",
    "fix_programs",
    "fix_failover",
    "fix_partitions",
    "fix_partman",
    "fix_stores",
    "fix_no_skips",
    "fix_order",
]
