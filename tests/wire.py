"""What goes over a connection, as libpq traces it."""

from __future__ import annotations

import re
from contextlib import contextmanager

from psycopg.pq import Trace


@contextmanager
def traced(conn, path):
    """Write down every message of a connection; what is given is filled in at the end."""
    told = []
    with path.open("w") as file:
        conn.pgconn.trace(file.fileno())
        conn.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
        yield told
        conn.pgconn.untrace()
    fields = [line.split("\t") for line in path.read_text().splitlines()]
    # A text may go on over lines.
    told.extend(it for it in fields if len(it) > 2)


def round_trips(told):
    """Return how often the server was ready again, and what it was asked."""
    sent = [line for line in told if line[0] == "F" and line[2] in {"Query", "Parse"}]
    # A statement's name, which may be none, comes before its text, of which the first line counts.
    texts = [re.fullmatch(r'(?:"\w*" )?"(.*?)(?:"[ 0-9]*)?', line[3].strip())[1] for line in sent]
    return sum(line[2] == "ReadyForQuery" for line in told), texts
