"""The access tokens that are good by their signature and are not to be let in any more."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy import Select, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from common.database import Database
from common.errors import BookstoreError, DatabaseUnavailableError, UnauthenticatedError
from common.tables import DeniedTokenRow
from common.tokens import Principal

KEPT = timedelta(hours=25)
"""How long a login or a key is denied: longer than any access token is good for, by any service's clock."""
ADMITTED = timedelta(hours=24, minutes=30)
"""How long after their token was issued anybody stays admitted.

Less than KEPT, for whoever ends all logins of a user names those that have had a token within that.
"""
DENIED = "This login was ended; log in again."
_POLL_SECONDS = 1.0
# Longer than a transaction can take from its statement to its commit, and than a poll may fail to be noticed.
_OVERLAP_SECONDS = 60
_PAGE = 2000
_COLUMNS = DeniedTokenRow.__table__.c  # type: ignore[attr-defined]  # SQLModel does not declare it
_LOG = logging.getLogger(__name__)

Item = TypeVar("Item")


class Admission:
    """Somebody who was let in for longer than one answer; `is_denied` from the moment that it is known.

    `on_denied` is called then.
    """

    def __init__(self, principal: Principal) -> None:
        self.names = principal.names
        self.over_at = principal.issued_at + ADMITTED.total_seconds()
        self.is_denied = False
        self.on_denied: Callable[[], object] = lambda: None
        self._waiting: asyncio.Task[Any] | None = None
        self._items: AsyncGenerator[Any, None] | None = None
        self._closing: asyncio.Future[None] | None = None

    def deny(self) -> None:
        """From now on they are out, also where they wait for something that may never come."""
        self.is_denied = True
        self.on_denied()
        if self._waiting is not None:
            self._waiting.cancel()
        elif self._items is not None:
            # Whoever takes them is at one, perhaps for ever, and would hold all that they come from.
            self._closing = asyncio.ensure_future(self._items.aclose())

    def check(self) -> None:
        """UnauthenticatedError once the token, its login or its key is denied."""
        if self.is_denied:
            raise UnauthenticatedError(DENIED)

    async def while_admitted(self, items: AsyncGenerator[Item, None]) -> AsyncGenerator[Item, None]:
        """Give them on until the end, or until UnauthenticatedError, be it while none comes.

        `items` are closed then, and when they are denied while the last one is still being dealt with.
        """
        self._items = items
        try:
            while True:
                self.check()
                self._waiting = asyncio.current_task()
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
                except asyncio.CancelledError:
                    if self._waiting is None or not self.is_denied:
                        raise
                    self._waiting.uncancel()
                    raise UnauthenticatedError(DENIED) from None
                finally:
                    self._waiting = None
                self.check()
                yield item
        finally:
            self._items = None
            await (self._closing or items.aclose())


class DeniedTokens:
    """What the table `denied_token` says, a second late at most (docs/adr/0022).

    A name is that of a token (`jti`), of a login (`sid`) or of a key (`kid`); none of them comes again. While
    the database cannot be asked, the last answer holds: nobody can be denied meanwhile, either.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._names: frozenset[str] = frozenset()
        self._is_read = False
        self._all_tried_at = float("-inf")
        self._admissions: set[Admission] = set()
        # Of two that read, one that began before would forget what the other has found.
        self._reading = asyncio.Lock()

    def check(self, principal: Principal) -> None:
        """Raise UnauthenticatedError for who is denied, DatabaseUnavailableError until there is an answer."""
        if not self._is_read:
            raise DatabaseUnavailableError("Which tokens are denied cannot be asked yet; try again.")
        if not self._names.isdisjoint(principal.names):
            raise UnauthenticatedError(DENIED)

    @contextmanager
    def admitted(self, principal: Principal) -> Iterator[Admission]:
        """Follow what becomes of a principal while the block lasts."""
        admission = Admission(principal)
        self._admissions.add(admission)
        try:
            yield admission
        finally:
            self._admissions.discard(admission)

    async def read(self) -> None:
        """Look now; the first time at all there is. Raises as `Database.read` does."""
        async with self._reading:
            if self._is_read:
                self._learn(await self._new_names())
            else:
                await self._read_all()

    async def read_all(self) -> None:
        """Look now at all there is, and forget what is over. Raises likewise; what is known stays known."""
        async with self._reading:
            await self._read_all()

    async def _read_all(self) -> None:
        names, page = set[str](), [""]
        try:
            while page:
                statement = (
                    select(_COLUMNS.name)
                    .where(_COLUMNS.expires_at > func.utc_timestamp(6), _COLUMNS.name > page[-1])
                    .order_by(_COLUMNS.name)
                    .limit(_PAGE)
                )
                page = await self._ask(statement)
                # What is denied meanwhile may come before the name that this has come to, and cannot wait.
                new = await self._new_names()
                names.update(page, new)
                self._learn(new)
        finally:
            self._all_tried_at = time.monotonic()
        self._names, self._is_read = frozenset(names), True
        self._end_the_denied()

    async def _new_names(self) -> list[str]:
        """Found by the time of their statement, looked back at for longer than any commit takes."""
        now = func.utc_timestamp(6)
        since = now - text(f"INTERVAL {_OVERLAP_SECONDS} SECOND")
        return await self._ask(
            select(_COLUMNS.name).where(_COLUMNS.denied_at > since, _COLUMNS.expires_at > now)
        )

    async def _ask(self, statement: Select[Any]) -> list[str]:
        async with self._database.read() as connection:
            return list((await connection.execute(statement)).scalars())

    def _learn(self, names: list[str]) -> None:
        if not self._names.issuperset(names):
            self._names = self._names.union(names)
        self._end_the_denied()

    def _end_the_denied(self) -> None:
        for admission in self._admissions:
            is_over = time.time() >= admission.over_at
            if not admission.is_denied and (is_over or not self._names.isdisjoint(admission.names)):
                admission.deny()

    async def run(self) -> None:
        """Look each second, until cancelled."""
        is_well = True
        while True:
            try:
                await self.read()
                if time.monotonic() - self._all_tried_at > _OVERLAP_SECONDS / 2:
                    await self.read_all()
                is_well = True
            except (BookstoreError, SQLAlchemyError) as error:
                if is_well:
                    _LOG.warning("denied tokens not read", extra={"error": str(error)})
                is_well = False
            await asyncio.sleep(_POLL_SECONDS)
