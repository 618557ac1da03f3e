"""Threads that do something again and again beside a test, and what is known of it."""

from __future__ import annotations

import threading


class Crowd:
    """Run some callables in threads, each until ``ended``; ``changed`` guards what they note."""

    def __init__(self, *targets):
        self.ended = threading.Event()
        self.changed = threading.Condition()
        self.threads = [threading.Thread(target=it) for it in targets]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def note(self, change):
        """Change what is known, and tell who waits."""
        with self.changed:
            change()
            self.changed.notify_all()

    def wait_for(self, holds, seconds=30.0):
        """Wait until something is known."""
        with self.changed:
            assert self.changed.wait_for(holds, seconds)


class Writers(Crowd):
    """Writers of rows, by whose ids is known what was acknowledged, and errors nobody expected."""

    def __init__(self, *targets):
        super().__init__(*targets)
        self.acknowledged, self.errors = set(), []

    def await_more(self, count, seconds=30.0):
        """Wait until so many more rows were acknowledged."""
        with self.changed:
            wanted = len(self.acknowledged) + count
        self.wait_for(lambda: self.errors or len(self.acknowledged) >= wanted, seconds)
        assert self.errors == []
