"""psycopg connections in both colours: who they reach is asked, their COMMIT tells the truth."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager, closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import waiting

from tenantry.drive import arows_of, rows_of
from tenantry.errors import Unavailable
from tenantry.noting import NotingCursor
from tenantry.place import RETRY_S
from tenantry.replicas.news import await_news, wait_for_news
from tenantry.truth import Truthful

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from typing import Self

    from psycopg.abc import PQGen

    from tenantry.opening import Answers
    from tenantry.place import Place
    from tenantry.prelude import Prelude
    from tenantry_schema.query import Query, Row

#: How often a waiting COMMIT looks for Ctrl-C.
_LOOK_S = 0.1


class RoutedCursor(NotingCursor, psycopg.Cursor[Any]):
    """A cursor of a routed connection."""

    connection: RoutedConnection

    def executemany(self, *given: Any, **options: Any) -> None:
        """Execute the same statement for each of many rows of values."""
        self.connection.open_before()
        super().executemany(*given, **options)


class AsyncRoutedCursor(NotingCursor, psycopg.AsyncCursor[Any]):
    """A cursor of an async routed connection."""

    connection: AsyncRoutedConnection

    async def executemany(self, *given: Any, **options: Any) -> None:
        """Execute the same statement for each of many rows of values."""
        await self.connection.open_before()
        await super().executemany(*given, **options)


class RoutedServerCursor(psycopg.ServerCursor[Any]):
    """A cursor on the server of a routed connection."""

    def __init__(self, connection: RoutedConnection, name: str, **options: Any) -> None:
        super().__init__(connection, name, **options)
        connection.lasting = connection.lasting or options.get("withhold", False)


class AsyncRoutedServerCursor(psycopg.AsyncServerCursor[Any]):
    """A cursor on the server of an async routed connection."""

    def __init__(self, connection: AsyncRoutedConnection, name: str, **options: Any) -> None:
        super().__init__(connection, name, **options)
        connection.lasting = connection.lasting or options.get("withhold", False)


class RoutedConnection(psycopg.Connection[Any], Truthful):
    """A psycopg connection with a COMMIT that is either acknowledged or an error."""

    @classmethod
    def connect(cls, conninfo: str = "", *, place: Place, **kwargs: Any) -> Self:  # type: ignore[override]
        """Connect to where the place is now, and check who answers; again while it makes sense."""
        del conninfo
        with place.connecting():
            return cls._connect_patiently(place, kwargs)

    @classmethod
    def _connect_patiently(cls, place: Place, kwargs: dict[str, Any]) -> Self:
        until = place.patience
        while (first := place.first_news_by) is not None:
            wait_for_news(place.watch, first - time.monotonic())
        while True:
            try:
                return cls._connect_once(place, kwargs)
            except (psycopg.Error, Unavailable) as error:
                place.failed(error)
                if not place.worth_retrying(until):
                    raise
            wait_for_news(place.watch, RETRY_S)

    @classmethod
    def _connect_once(cls, place: Place, kwargs: dict[str, Any]) -> Self:
        conn = super().connect(place.conninfo, cursor_factory=RoutedCursor, **kwargs)
        conn.server_cursor_factory = RoutedServerCursor
        try:
            conn.prepare_truth(place)
            with conn.lock:
                conn.wait(conn.settle())
        except BaseException:
            conn.close()
            raise
        place.last_failure = None
        return conn

    def settle_down(self) -> None:
        """Take in what is still to come, and ask a server who it is that may have been deposed.

        :raises Unavailable: when it may not serve here
        """
        with self.lock:
            self.wait(self._settle_down())

    def close(self) -> None:
        """Close for good; what SQLAlchemy has on loan goes back to its pool, also when broken."""
        pool = self.taken_back()
        if pool is None:
            super().close()
        else:
            pool.putconn(self)

    def part(self) -> None:
        """End a transaction that only read; nobody waits for the answer to its COMMIT."""
        if not self.nothing_to_commit():
            with self.lock:
                self.wait(self.send_parting())

    def abandon(self) -> None:
        """Roll back whatever is open; close what cannot be rolled back."""
        try:
            self.rollback()
        except psycopg.Error:
            # The server forgets the transaction with its connection.
            self.pgconn.finish()

    def begin(self, prelude: Prelude) -> Answers:
        """Open a routed transaction, now or along with its first statement."""
        if self.puts_off(prelude):
            return []
        with self.lock:
            return self.wait(self.open_alone())

    @contextmanager
    def transaction(self, *given: Any, **options: Any) -> Iterator[psycopg.Transaction]:
        """Open a savepoint within the routed transaction."""
        self.open_before()
        with super().transaction(*given, **options) as transaction:
            yield transaction

    @contextmanager
    def pipeline(self) -> Iterator[psycopg.Pipeline]:
        """Switch to pipeline mode within the routed transaction."""
        # Within it nobody could ask a pooler's server who it is.
        self.bare = False
        self.open_before()
        with super().pipeline() as pipeline:
            yield pipeline

    def open_before(self) -> None:
        """Open the transaction now, if it was put off."""
        with self.lock:
            self.wait(self.open_now())

    def commit(self) -> None:
        """Commit.

        :raises OutcomeUnknown: when COMMIT was sent and no clean acknowledgement came back
        """
        self._await_commit(self._checked_commit())

    def conclude(self, query: Query) -> list[Row]:
        """Run the last statement of the transaction, and commit; give its rows.

        :raises OutcomeUnknown: when COMMIT was sent and no clean acknowledgement came back
        """
        cursor = self.cursor()
        steps = self._conclude(cursor, query)
        if self.declared:
            self._await_read(steps)
        else:
            self._await_commit(steps)
        try:
            return rows_of(cursor)
        except Exception as error:
            raise self.unread(error) from error

    def _await_read(self, steps: PQGen[None]) -> None:
        """Wait for a last statement that only reads: one that is interrupted is cancelled."""
        with self.lock, closing(steps):
            self.wait(steps)

    def _await_commit(self, steps: PQGen[None]) -> None:
        with self.lock:
            try:
                waiting.wait(steps, self.pgconn.socket, interval=_LOOK_S)
            except BaseException as error:
                # What was interrupted cleans up now, not when its traceback is forgotten.
                steps.close()
                meant = self._after_failed_commit(error)
                if meant is None or meant is error:
                    raise
                raise meant from error


class AsyncRoutedConnection(psycopg.AsyncConnection[Any], Truthful):
    """An async psycopg connection with a COMMIT that is either acknowledged or an error."""

    @classmethod
    async def connect(  # type: ignore[override]
        cls, conninfo: str = "", *, place: Place, **kwargs: Any
    ) -> Self:
        """Connect to where the place is now, and check who answers; again while it makes sense."""
        del conninfo
        with place.connecting():
            return await cls._connect_patiently(place, kwargs)

    @classmethod
    async def _connect_patiently(cls, place: Place, kwargs: dict[str, Any]) -> Self:
        until = place.patience
        while (first := place.first_news_by) is not None:
            await await_news(place.watch, first - time.monotonic())
        while True:
            try:
                return await cls._connect_once(place, kwargs)
            except (psycopg.Error, Unavailable) as error:
                place.failed(error)
                if not place.worth_retrying(until):
                    raise
            await await_news(place.watch, RETRY_S)

    @classmethod
    async def _connect_once(cls, place: Place, kwargs: dict[str, Any]) -> Self:
        conn = await super().connect(place.conninfo, cursor_factory=AsyncRoutedCursor, **kwargs)
        conn.server_cursor_factory = AsyncRoutedServerCursor
        try:
            conn.prepare_truth(place)
            async with conn.lock:
                await conn.wait(conn.settle())
        except BaseException:
            await conn.close()
            raise
        place.last_failure = None
        return conn

    async def settle_down(self) -> None:
        """Take in what is still to come, and ask a server who it is that may have been deposed.

        :raises Unavailable: when it may not serve here
        """
        async with self.lock:
            await self.wait(self._settle_down())

    async def close(self) -> None:
        """Close for good; what SQLAlchemy has on loan goes back to its pool, also when broken."""
        pool = self.taken_back()
        if pool is None:
            await super().close()
        else:
            await pool.putconn(self)

    async def part(self) -> None:
        """End a transaction that only read; nobody waits for the answer to its COMMIT."""
        if not self.nothing_to_commit():
            async with self.lock:
                await self.wait(self.send_parting())

    async def abandon(self) -> None:
        """Roll back whatever is open; close what cannot be rolled back."""
        try:
            await self.rollback()
        except psycopg.Error:
            # The server forgets the transaction with its connection.
            self.pgconn.finish()

    async def begin(self, prelude: Prelude) -> Answers:
        """Open a routed transaction, now or along with its first statement."""
        if self.puts_off(prelude):
            return []
        async with self.lock:
            return await self.wait(self.open_alone())

    @asynccontextmanager
    async def transaction(
        self, *given: Any, **options: Any
    ) -> AsyncIterator[psycopg.AsyncTransaction]:
        """Open a savepoint within the routed transaction."""
        await self.open_before()
        async with super().transaction(*given, **options) as transaction:
            yield transaction

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[psycopg.AsyncPipeline]:
        """Switch to pipeline mode within the routed transaction."""
        # Within it nobody could ask a pooler's server who it is.
        self.bare = False
        await self.open_before()
        async with super().pipeline() as pipeline:
            yield pipeline

    async def open_before(self) -> None:
        """Open the transaction now, if it was put off."""
        async with self.lock:
            await self.wait(self.open_now())

    async def commit(self) -> None:
        """Commit; a cancelled task gets the error too, because its COMMIT may have happened.

        :raises OutcomeUnknown: when COMMIT was sent and no clean acknowledgement came back
        """
        await self._await_commit(self._checked_commit())

    async def conclude(self, query: Query) -> list[Row]:
        """Run the last statement of the transaction, and commit; give its rows.

        :raises OutcomeUnknown: when COMMIT was sent and no clean acknowledgement came back
        """
        cursor = self.cursor()
        steps = self._conclude(cursor, query)
        if self.declared:
            await self._await_read(steps)
        else:
            await self._await_commit(steps)
        try:
            return await arows_of(cursor)
        except Exception as error:
            raise self.unread(error) from error

    async def _await_read(self, steps: PQGen[None]) -> None:
        """Wait for a last statement that only reads: one that is interrupted is cancelled."""
        async with self.lock:
            with closing(steps):
                await self.wait(steps)

    async def _await_commit(self, steps: PQGen[None]) -> None:
        async with self.lock:
            try:
                await waiting.wait_async(steps, self.pgconn.socket, interval=_LOOK_S)
            except BaseException as error:
                # What was interrupted cleans up now, not when its traceback is forgotten.
                steps.close()
                meant = self._after_failed_commit(error)
                if meant is None or meant is error:
                    raise
                raise meant from error
