"""The life of a task: which state may follow which, and what an ended task does to its dependents.

::

    new ──► waiting ──► ready ◄──► running ──► done
                │         │           ├──────► failed
                │         │           ├──────► dead ──► ready (by hand)
                └─────────┴───────────┴──────► cancelled
                └──► failed, skipped (what it needs ended so)

Each row holds its state and the change that led to it (``ready>running``), and Postgres checks that
they agree and that the change is drawn here: a statement that changes the state without saying how,
or by another way, is refused. Pure: the check's text and the statements' tests are made from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

State = Literal["waiting", "ready", "running", "done", "failed", "skipped", "cancelled", "dead"]
#: What an edge does when the task that it needs does not end as ``done``.
OnFailure = Literal["fail", "skip", "ignore"]

NEW = "new"
#: States that a claim, a dependency or a person may still change.
UNFINISHED = ("waiting", "ready", "running")
ON_FAILURE = ("fail", "skip", "ignore")
EXHAUSTED = ("failed", "dead")

TRANSITIONS: frozenset[tuple[str, str]] = frozenset(
    {
        (NEW, "waiting"),
        (NEW, "ready"),
        ("waiting", "ready"),
        ("waiting", "failed"),
        ("waiting", "skipped"),
        ("waiting", "cancelled"),
        ("ready", "running"),
        ("ready", "cancelled"),
        ("running", "running"),
        ("running", "ready"),
        ("running", "done"),
        ("running", "failed"),
        ("running", "dead"),
        ("running", "cancelled"),
        ("dead", "ready"),
        ("dead", "cancelled"),
    }
)


def one_of(expression: str, words: Iterable[str]) -> str:
    """Return the SQL condition that an expression is one of some words.

    As one constant: a list of them would be read and planned word by word, at every statement.
    """
    return f"{expression} = ANY ('{{{','.join(words)}}}')"


def transition_check(change: str) -> str:
    """Return the SQL condition that an expression, such as ``ready>running``, is drawn above."""
    return one_of(change, (f"{before}>{after}" for before, after in sorted(TRANSITIONS)))


def effect(ended: str, on_failure: str) -> str | None:
    """Return what becomes of a dependent when what it needs ended, or None when the need is met.

    A dead letter waits for a person, and so do its dependents: it is not asked about here.
    """
    if ended == "done" or on_failure == "ignore":
        return None
    return "skipped" if on_failure == "skip" else ended


def strongest(effects: frozenset[str]) -> str:
    """Return the one of several effects that counts: failed before cancelled before skipped."""
    return next(it for it in ("failed", "cancelled", "skipped") if it in effects)


def after_failure(*, failures: int, max_attempts: int, exhausted: str) -> str:
    """Return the state of a task whose attempt failed.

    :param failures: how many attempts failed, this one among them; lost leases do not count
    """
    return "ready" if failures < max_attempts else exhausted
