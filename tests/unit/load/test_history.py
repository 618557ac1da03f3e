"""A record can be read wherever it was cut off, and nothing else is taken for one."""

from __future__ import annotations

import json
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry_loadtest.history import (
    Outcome,
    Run,
    Seat,
    Write,
    begin_line,
    end_line,
    parse_history,
    run_line,
    unread_line,
)
from tenantry_loadtest.journal import Journal, read_history
from tenantry_schema.errors import InvalidConfig

TENANT = UUID(int=1)
RUN = Run("load-x", 7, (Seat("load-x-0000", TENANT, UUID(int=2)),))
WRITE = Write("load-x-0-1", "tasks", TENANT)


def text(*lines):
    return "".join(f"{json.dumps(line)}\n" for line in lines)


@given(st.lists(st.tuples(st.sampled_from(Outcome), st.text()), min_size=1, max_size=5), st.data())
def test_a_record_that_was_cut_off_anywhere(outcomes, data):
    """What was begun is known, and what has not ended by then is of unknown outcome."""
    writes = [Write(f"load-x-0-{it}", "tasks", TENANT) for it in range(len(outcomes))]
    lines = [run_line(RUN), *map(begin_line, writes)]
    lines += [end_line(it.key, *told) for it, told in zip(writes, outcomes, strict=True)]
    whole = text(*lines)
    cut = data.draw(st.integers(len(text(lines[0])), len(whole)))
    found = parse_history(whole[:cut])
    complete = whole[:cut].count("\n") - 1
    assert found.run == RUN
    assert list(found.writes) == [it.key for it in writes][:complete]
    ended = max(0, complete - len(writes))
    told = [(it.outcome, it.reason) for it in found.writes.values()]
    assert told[:ended] == outcomes[:ended]
    assert all(it == (Outcome.UNKNOWN, None) for it in told[ended:])


def test_a_journal_is_read_as_it_was_written(tmp_path):
    """Two processes, one record; a file that is there is never written over."""
    path = tmp_path / "record.jsonl"
    Journal.create(path, RUN).close()
    with Journal.append(path) as journal:
        journal.begin(WRITE)
        journal.end(WRITE.key, Outcome.FAILED, "why")
        journal.unread(WRITE.key)
    found = read_history(path)
    assert found.writes == {WRITE.key: Write(WRITE.key, "tasks", TENANT, Outcome.FAILED, "why")}
    assert found.unread == (WRITE.key,)
    with pytest.raises(InvalidConfig, match="never written over"):
        Journal.create(path, RUN)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("", "is empty"),
        (text(run_line(RUN))[:-1], "is empty"),
        ("{}\n", "line 1 .* describes no run"),
        ("[]\n", "line 1 .* describes no run"),
        (text(run_line(RUN), {"event": "dance", "key": "x"}), "line 2 .*no event is called"),
        (text(run_line(RUN), end_line("x", Outcome.FAILED, None)), "line 2 .* KeyError"),
        (text(run_line(RUN), unread_line("x")), "line 2 .* KeyError"),
        (text(run_line(RUN)) + "\0\n", "line 2 .* cannot be"),
        (
            text(run_line(RUN), begin_line(Write("x", "tasks", uuid4()))),
            "line 2 .* is no tenant of the run",
        ),
    ],
)
def test_what_is_no_record(tmp_path, record, reason):
    """Refused by the file's name and the line's number."""
    path = tmp_path / "some.jsonl"
    path.write_text(record)
    with pytest.raises(InvalidConfig, match=f"some.jsonl: .*{reason}"):
        read_history(path)
