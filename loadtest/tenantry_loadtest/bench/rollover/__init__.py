"""What a rollover costs others: ours, pg_partman's and pg-partsmith's side by side in one run.

``python -m tenantry_loadtest.bench.rollover``, with Debian's Postgres 15 and its pg_partman.
"""

from __future__ import annotations
