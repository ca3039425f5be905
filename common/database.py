"""Engines and transactions: requests have a deadline, threads a time-out for each answer of the server."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, Row, Select, create_engine, event, make_url, text
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from common.abandoned import AbandonedReads
from common.driver_errors import translate
from common.errors import StartError
from common.settings import NO_TLS_IN_URL, DatabaseSettings
from common.time_limits import heed_limits, limit_selects, session_limit
from common.tls import ClientTls

# The deadlines of a request (docs/adr/0013), in seconds. Who finds no free connection is not tried again,
# because by then RETRY_SECONDS have passed; a lock is waited for twice.
BUSY_SECONDS = 1.5
CONNECT_SECONDS = 3
WORK_SECONDS = 3
COMMIT_SECONDS = 3
LOCK_SECONDS = 1
# No try of a command begins later than this after the first.
RETRY_SECONDS = 1.25

_SESSION = (
    "SET time_zone = '+00:00',"
    " sql_mode = 'STRICT_TRANS_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,NO_ENGINE_SUBSTITUTION'"
)
_ON_CONNECT = f"{_SESSION}, innodb_lock_wait_timeout = 5"
# The second is for locks on whole tables, which a session waits a day or a year for otherwise.
_IMPATIENT = f"{_SESSION}, innodb_lock_wait_timeout = {LOCK_SECONDS}, lock_wait_timeout = {LOCK_SECONDS}"


def driver_url(settings: DatabaseSettings, driver: str) -> URL:
    """The configured address with `driver` (`pymysql`, `asyncmy`) in it; StartError for any other URL."""
    try:
        url = make_url(settings.database_url.get_secret_value())
    except (SQLAlchemyError, ValueError):  # the latter for a port that is no number
        raise StartError("DATABASE_URL is not a URL: write mysql://user:password@host:port/name.") from None
    if url.get_backend_name() not in {"mysql", "mariadb"} or not url.host or not url.database:
        raise StartError("DATABASE_URL must look like mysql://user:password@host:port/name.")
    if any(name.startswith("ssl") for name in url.query):
        raise StartError(f"DATABASE_URL {NO_TLS_IN_URL}.")
    return url.set(drivername=f"mysql+{driver}").update_query_dict({"charset": "utf8mb4"})


def _options(pool_size: int, isolation: str, tls: ClientTls) -> dict[str, Any]:
    # Every use of a connection ends its own transaction, so the pool need not pay a ROLLBACK round trip.
    arguments: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, "init_command": _ON_CONNECT}
    if tls.given:
        # A context, and not single options, makes both drivers refuse a server that has no TLS.
        arguments["ssl"] = tls.context()
    return {
        "isolation_level": isolation,
        "pool_size": pool_size,
        "max_overflow": 0,
        "pool_timeout": BUSY_SECONDS,
        "pool_recycle": 1800,
        "pool_reset_on_return": None,
        "skip_autocommit_rollback": True,
        # Among them are hashes of passwords; what fails unforeseen is written into logs and terminals.
        "hide_parameters": True,
        "connect_args": arguments,
    }


class Database:
    """The asynchronous side: two pools, one for transactions, one in autocommit for single reads.

    A read in autocommit costs one round trip, and sees everything that was committed before it began.
    Nothing here takes longer than the deadlines above allow, whatever the server does.
    """

    def __init__(self, settings: DatabaseSettings, *, pool_size: int = 16) -> None:
        url, tls = driver_url(settings, "asyncmy"), settings.database_tls
        self._writes = _impatient_engine(url, _options(pool_size, "READ COMMITTED", tls), _IMPATIENT)
        # A statement whose connection was cut would otherwise go on until it has its answer.
        limited = _IMPATIENT + session_limit(WORK_SECONDS)
        self._reads = _impatient_engine(url, _options(pool_size, "AUTOCOMMIT", tls), limited)
        heed_limits(self._reads)
        self._abandoned = AbandonedReads(self.read, within=WORK_SECONDS)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """One READ COMMITTED transaction: committed when the block ends, rolled back when it raises.

        Raises ContendedError, DatabaseUnavailableError (nothing was changed) or OutcomeUnknownError (the
        commit was sent and its answer never came). Commit and roll-back are finished even if the caller is
        cancelled meanwhile, so no pooled connection is left inside a transaction.
        """
        try:
            async with _opened(self._writes) as connection:
                with _deadline(connection, WORK_SECONDS):
                    # Said aloud, for statements that go to the driver itself begin nothing by themselves.
                    await connection.begin()
                    try:
                        yield connection
                    except BaseException:
                        await _to_the_end(self._roll_back(connection))
                        raise
                with _deadline(connection, COMMIT_SECONDS):
                    await _to_the_end(self._commit(connection))
        except (SQLAlchemyError, OSError) as error:
            raise translate(error) from error

    @staticmethod
    async def _roll_back(connection: AsyncConnection) -> None:
        try:
            await connection.rollback()
        except (SQLAlchemyError, OSError):
            # The server rolls back what is cut off. What made the block fail is what the caller must hear.
            await connection.invalidate()

    @staticmethod
    async def _commit(connection: AsyncConnection) -> None:
        try:
            await connection.commit()
        except (SQLAlchemyError, OSError) as error:
            # Both servers roll back what they refuse to commit. Should one not, the next would commit it.
            await connection.invalidate()
            raise translate(error, committing=True) from error

    @asynccontextmanager
    async def read(self, *, within: float | None = None) -> AsyncIterator[AsyncConnection]:
        """A connection in autocommit, for single SELECTs, which take no longer than `within` seconds.

        The server ends them itself, too, at that time, and soon after a caller is cancelled. Raises
        DatabaseUnavailableError, or ContendedError when somebody has locked the whole table.
        """
        seconds = WORK_SECONDS if within is None else min(within, WORK_SECONDS)
        try:
            async with _opened(self._reads) as connection:
                number = _driver_connection(connection).thread_id()
                if seconds < WORK_SECONDS:
                    limit_selects(connection, seconds)
                try:
                    with _deadline(connection, seconds):
                        yield connection
                except asyncio.CancelledError:
                    if connection.invalidated:  # a statement was under way
                        self._abandoned.end(number)
                    raise
        except (SQLAlchemyError, OSError) as error:
            raise translate(error) from error

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator["Snapshot"]:
        """All reads of the block see what was committed when it began; each has the deadline of a read.

        Raises as `read` does. While it lasts the server keeps what is changed, so let it not last long.
        """
        try:
            async with _opened(self._reads) as connection:
                try:
                    with _deadline(connection, WORK_SECONDS):
                        await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
                        await connection.execute(
                            text("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
                        )
                    yield Snapshot(connection)
                    # A read that was cancelled, in a task of the block, has cost the connection.
                    if not connection.invalidated:
                        with _deadline(connection, WORK_SECONDS):
                            await connection.execute(text("ROLLBACK"))
                except BaseException:
                    # Whoever gets the connection next would read in the transaction that is still open.
                    await _to_the_end(connection.invalidate())
                    raise
        except (SQLAlchemyError, OSError) as error:
            raise translate(error) from error

    async def close(self) -> None:
        """Close all pooled connections."""
        await self._abandoned.close()
        await self._writes.dispose()
        await self._reads.dispose()


class Snapshot:
    """The database as it was at one instant."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def all(self, query: Select[Any]) -> Sequence[Row[Any]]:
        """All rows of `query`; raises the driver's errors, which `Database.snapshot` translates."""
        with _deadline(self._connection, WORK_SECONDS):
            rows: Sequence[Row[Any]] = (await self._connection.execute(query)).all()
        return rows


def _impatient_engine(url: URL, options: dict[str, Any], on_connect: str) -> AsyncEngine:
    options["connect_args"]["init_command"] = on_connect
    return create_async_engine(url, **options)


@asynccontextmanager
async def _opened(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection of the pool, given back in the end; raises the driver's error, or an OSError."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  a coroutine that runs
    cancellations = task.cancelling()
    async with asyncio.timeout(CONNECT_SECONDS):
        try:
            connection = await engine.connect()
        except RuntimeError as error:
            # So asyncmy and uvloop call one that ended before it was set up.
            raise ConnectionAbortedError(str(error)) from error
    try:
        if task.cancelling() > cancellations:
            # Python 3.11's wait_for, with which the driver connects, may swallow one (cpython gh-86296).
            raise asyncio.CancelledError
        yield connection
    finally:
        await _to_the_end(_give_back(connection))


async def _give_back(connection: AsyncConnection) -> None:
    # A deadline that passes while an answer is on its way to whoever waits for it cuts what nobody sees lost.
    if not connection.invalidated:
        transport = _driver_connection(connection)._transport  # noqa: SLF001  no other way
        if transport is None or transport.is_closing():
            await connection.invalidate()
    await connection.close()


@contextmanager
def _deadline(connection: AsyncConnection, seconds: float) -> Iterator[None]:
    """Cut the connection when the block takes longer: whoever waits for its answer then sees it lost.

    Cut and not cancelled: a cancelled call would have to be told from one whose caller has left, and what
    is shielded from cancellation, a commit above all, would wait on. The pool throws a cut connection away,
    so no late answer is taken for that of another statement.
    """
    driver = _driver_connection(connection)
    # Not close(), which would first send what a server that is not there does not take.
    timer = asyncio.get_running_loop().call_later(seconds, driver._transport.abort)  # noqa: SLF001  no other way
    try:
        yield
    finally:
        timer.cancel()


def _driver_connection(connection: AsyncConnection) -> Any:  # noqa: ANN401  asyncmy has no types
    assert connection.sync_connection is not None  # noqa: S101  it is open
    return connection.sync_connection.connection.driver_connection


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Do all of `work`, which has a deadline of its own, however often the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()  # seen, but the caller who would hear of it has left
        raise cancelled
    task.result()


def thread_engine(  # noqa: PLR0913  each bounds something of its own
    settings: DatabaseSettings,
    *,
    autocommit: bool = False,
    pool_size: int = 2,
    read_timeout: int = 30,
    impatient: bool = False,
    idle_timeout: int | None = None,
) -> Engine:
    """The blocking side, on pymysql at READ COMMITTED, for whatever runs in a thread of its own.

    With `autocommit` each statement is a transaction: a process that is frozen between two of them holds no
    lock. A server that says nothing for `read_timeout` seconds is taken for gone; `impatient` ones wait for
    locks no longer than a request does. With `idle_timeout` the server ends a connection that is idle for so
    many seconds, and undoes its transaction; one that waits in the pool is replaced before that.
    """
    isolation = "AUTOCOMMIT" if autocommit else "READ COMMITTED"
    options = _options(pool_size, isolation, settings.database_tls)
    options["connect_args"] |= {"read_timeout": read_timeout, "write_timeout": read_timeout}
    if impatient:
        options["connect_args"]["init_command"] = _IMPATIENT
    if idle_timeout is not None:
        options["connect_args"]["init_command"] += f", wait_timeout = {idle_timeout}"
    engine = create_engine(driver_url(settings, "pymysql"), **options)
    if autocommit:

        @event.listens_for(engine, "connect")
        def _read_committed(connection: Any, _: object) -> None:  # noqa: ANN401  a driver's connection
            # Without it a DELETE or UPDATE would lock the gaps that the writers insert into.
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")

    if idle_timeout is not None:
        _replace_idle(engine, idle_timeout / 2)
    return engine


def _replace_idle(engine: Engine, seconds: float) -> None:
    """Replace a connection that has waited in the pool for so long; one that is in use lives on.

    pool_recycle counts from the connection's beginning: it would make a busy one anew all the time, each at
    25 ms of processor time, which is what pymysql takes to read the system's certificates.
    """

    @event.listens_for(engine, "checkin")
    def _note(_: object, record: ConnectionPoolEntry) -> None:
        record.info["idle_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _refuse(_: object, record: ConnectionPoolEntry, __: object) -> None:
        if time.monotonic() - record.info.get("idle_since", time.monotonic()) > seconds:
            raise DisconnectionError


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """What `Database.begin` is, for threads."""
    try:
        with engine.connect() as connection:
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            try:
                connection.commit()
            except (SQLAlchemyError, OSError) as error:
                connection.invalidate()  # as in Database
                raise translate(error, committing=True) from error
    except (SQLAlchemyError, OSError) as error:
        raise translate(error) from error
