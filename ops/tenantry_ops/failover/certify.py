"""Certify a promotion that happened elsewhere: by hand, or by a manager of high availability."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from tenantry.conninfo import parse
from tenantry_ops.failover.act import CERTIFY
from tenantry_ops.failover.ask import ask_shard, node_conninfo, stand
from tenantry_ops.failover.record import read_record
from tenantry_ops.failover.standing import lsn_text
from tenantry_schema.errors import FailoverRefused


@dataclass(frozen=True, slots=True)
class Certified:
    """What the shard's lineage has now.

    :ivar ended: where the former timeline ended; None where the server no longer knows, and then
        no token of an earlier timeline is confirmed
    """

    shard: str
    primary: str
    timeline: int
    ended: str | None


def certify(catalog: str, name: str) -> Certified:
    """Write down the timeline of a shard's primary; doing it again changes nothing.

    :raises FailoverRefused: when no primary answers
    """
    record, given = read_record(catalog, name), parse(catalog)
    head = ask_shard(record, given).primary
    if head is None:
        raise FailoverRefused(f"shard {name}: no primary answers, so there is nothing to certify")
    conninfo = node_conninfo(given, record.node(head.node), "tenantry-shard")
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute("SET synchronous_commit = local")
        conn.execute(CERTIFY)
        known = dict(stand(head.node, conn).certified)
    ended = known[head.timeline]
    return Certified(name, head.node, head.timeline, None if ended is None else lsn_text(ended))
