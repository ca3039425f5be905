"""One reader process: what it is made of, and in which order it starts and stops."""

import asyncio
import contextlib
import logging
import signal
import socket
from types import FrameType

from grpc import ServerCredentials, aio
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from sqlalchemy import Engine

from common import interrupts
from common.cache import BookCache
from common.database import Database, thread_engine
from common.denied_tokens import DeniedTokens
from common.errors import BookstoreError, StartError
from common.open_files import files_for
from common.schema import await_known_schema
from grpc_reader.authentication import Authentication
from grpc_reader.book_service import BookService
from grpc_reader.consumer import Consumer
from grpc_reader.event_service import EventService, add_event_service
from grpc_reader.follower import Follower
from grpc_reader.gaps import Gaps
from grpc_reader.health import HealthServer, listen
from grpc_reader.interceptor import CallInterceptor
from grpc_reader.keys import RemoteKeys
from grpc_reader.limits import GrpcLimits
from grpc_reader.metrics import ReaderMetrics
from grpc_reader.serving_status import ServingStatus
from grpc_reader.settings import ReaderSettings
from grpc_reader.tls import server_credentials
from protos.bookstore.v1 import books_pb2_grpc
from protos.bookstore.v1.books_pb2 import DESCRIPTOR as BOOKS
from protos.bookstore.v1.events_pb2 import DESCRIPTOR as EVENTS

_SERVICES = tuple(service.full_name for file in (BOOKS, EVENTS) for service in file.services_by_name.values())
# Longer than a query may take (common/database.py), so that calls that have begun are answered; a list that
# waits for its turn (common/turns.py) may be cut.
_GRACE_SECONDS = 4.0
# Four read the past for watchers; the others ask one at a time.
_WATCHING_CONNECTIONS = 8
_BATCH_SECONDS = 6.0
# The consumer's statements: a database that is silent for longer is treated as gone.
_STATEMENT_SECONDS = 6
# And a consumer that is frozen inside its transaction gives its locks back to the next one after so long.
_IDLE_SECONDS = 10
_LOG = logging.getLogger(__name__)


def grpc_server(  # noqa: PLR0913  what it is made of
    database: Database,
    cache: BookCache,
    follower: Follower,
    authentication: Authentication,
    metrics: ReaderMetrics,
    *,
    limits: GrpcLimits,
) -> aio.Server:
    """A server with both services, not listening yet; health and reflection are the caller's."""
    server = aio.server(
        interceptors=[CallInterceptor(authentication, limits, metrics)],
        options=[
            # Two processes on one port would share the calls without a word.
            ("grpc.so_reuseport", 0),
            *limits.options,
        ],
    )
    books = BookService(database, cache)
    books_pb2_grpc.add_BookServiceServicer_to_server(books, server)  # type: ignore[no-untyped-call]  # generated
    add_event_service(EventService(database, follower), server)
    return server


def serve(settings: ReaderSettings) -> None:
    """Serve until SIGTERM or SIGINT; StartError when that cannot begin."""
    interrupts.end_at_once()
    engine = thread_engine(settings, read_timeout=_STATEMENT_SECONDS, idle_timeout=_IDLE_SECONDS)
    await_known_schema(engine)
    try:
        asyncio.run(_serve(settings, engine))
    finally:
        interrupts.ignore()
        engine.dispose()


async def _serve(settings: ReaderSettings, engine: Engine) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask_to_stop(_: int, __: FrameType | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: so has the serving
            loop.call_soon_threadsafe(stop.set)

    for number in interrupts.SIGNALS:
        # Not the loop's own handler, which gives way to the default one, sudden death, when the loop closes.
        signal.signal(number, ask_to_stop)
    metrics = ReaderMetrics()
    database, cache = Database(settings), BookCache(settings)
    # What is new, who is denied and whether the database answers is seen however many calls wait for it.
    watched = Database(settings, pool_size=_WATCHING_CONNECTIONS)
    follower = Follower(watched)

    def wake_follower() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended before the consumer
            loop.call_soon_threadsafe(follower.wake)

    consumer = Consumer(settings, settings, engine, metrics, wake_follower)
    denied = DeniedTokens(watched)
    with contextlib.suppress(BookstoreError):  # tried again each second
        await denied.read()
    keys = RemoteKeys(str(settings.jwks_url), settings.api_client_tls.context())
    limits = settings.model_copy(update={"grpc_max_connections": files_for(settings.grpc_max_connections)})
    server = grpc_server(database, cache, follower, Authentication(keys, denied), metrics, limits=limits)
    health = add_health(server, reflect=settings.grpc_reflection)
    gaps = Gaps(watched, consumer, metrics)
    http = HealthServer(watched, cache, consumer, gaps, metrics)
    http_socket = listen(settings.bind_host, settings.reader_health_port)
    port = bind(server, settings.bind_host, settings.grpc_port, server_credentials(settings.grpc_tls))
    await server.start()
    consumer.start()
    work = (http.serve(sockets=[http_socket]), follower.run(), gaps.run())
    tasks = [asyncio.create_task(each) for each in work]
    stopped = asyncio.create_task(stop.wait())
    denying = asyncio.create_task(denied.run())
    _LOG.info("reader serves", extra={"grpc_port": port, "health_port": http_socket.getsockname()[1]})
    # Any of the tasks ends before the signal only by a fault, which must end the process too.
    await asyncio.wait([stopped, denying, *tasks], return_when=asyncio.FIRST_COMPLETED)

    _LOG.info("reader stops")
    health.stop()
    consumer.stop()
    follower.close()
    gaps.close()
    # Both at once: one after the other might take longer than whoever stops us waits.
    joined, _ = await asyncio.gather(
        asyncio.to_thread(consumer.join, _BATCH_SECONDS), server.stop(_GRACE_SECONDS)
    )
    if not joined:
        _LOG.warning("batch not finished", extra={"consequence": "it is delivered again"})
    stopped.cancel()
    denying.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await denying
    http.should_exit = True
    await asyncio.gather(*tasks)
    await database.close()
    await watched.close()
    await cache.close()


def add_health(server: aio.Server, *, reflect: bool) -> ServingStatus:
    """Health of all there is, SERVING, and reflection if wanted; both need no token."""
    health = ServingStatus(("", *_SERVICES))
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    if reflect:
        names = (*_SERVICES, "grpc.health.v1.Health", reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
    return health


def bind(server: aio.Server, host: str, port: int, credentials: ServerCredentials | None = None) -> int:
    """The port that the server listens on; StartError when it is taken."""
    try:
        # Asked first, because gRPC's own complaint goes to standard error past any logging.
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except (OSError, RuntimeError):
        raise StartError(f"Cannot listen on {host}:{port}: set GRPC_PORT to a free port.") from None
