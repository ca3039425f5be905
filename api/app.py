import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from api import admission, problem_handlers, problems
from api.admission import Admission, Places, Room, busy
from api.auth.account_routes import router as account_router
from api.auth.keys import SigningKeys
from api.auth.routes import Login
from api.auth.routes import router as auth_router
from api.auth.server import LoginServer
from api.auth.turnstile import Turnstile
from api.books import export_routes
from api.books.cursors import Cursors
from api.books.import_routes import IMPORT_PATH
from api.books.import_routes import router as import_router
from api.books.routes import router as books_router
from api.cors import Cors
from api.cut_short import CutShort
from api.docs_pages import DESCRIPTION, LICENSE, SERVERS, TAGS, describe, docs_routes
from api.doorbell import Doorbell
from api.limits import Limits
from api.metrics import Refusals, RequestMetrics
from api.problem_pages import problem_pages
from api.purging import keep_purging
from api.rates import Rates
from api.response_headers import ResponseHeaders
from api.services import Services
from api.settings import ApiSettings
from common.cache import BookCache
from common.database import WORK_SECONDS, Database, thread_engine
from common.denied_tokens import DeniedTokens
from common.errors import BookstoreError, InvalidInputError
from common.health import Check, health_routes
from common.tokens import API, AUDIENCES, TokenVerifier
from common.turns import turns_for_lists

VERSION = "1.0.0"
_PASSWORD_CHECKS_AT_ONCE = 2
_LOOKUPS_AT_ONCE = 2
_IMPORTS_AT_ONCE = 8
_IMPORTS_OF_ONE_USER = 4
_WAITING = 32
_WATCHING_CONNECTIONS = 2


def create_app(settings: ApiSettings) -> FastAPI:
    """The API, whole; it opens its connections when it is served and closes them after.

    StartError when the signing keys cannot be had.
    """
    keys = SigningKeys.open(settings.signing_keys_dir, settings.signing_key_lead)
    cursors = Cursors.open(settings.signing_keys_dir)
    registry = CollectorRegistry()
    refusals = Refusals(registry)
    quotas = {
        admission.ADDRESS: settings.rate_limit_address,
        admission.USER: settings.rate_limit_user,
        admission.LOGIN: settings.rate_limit_login,
    }
    rates = Rates(settings, quotas)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = thread_engine(
            settings,
            pool_size=_PASSWORD_CHECKS_AT_ONCE + _LOOKUPS_AT_ONCE,
            read_timeout=WORK_SECONDS,
            impatient=True,
        )
        # Who is denied, and whether the database answers, is seen however many calls wait for a connection.
        database, watched = Database(settings), Database(settings, pool_size=_WATCHING_CONNECTIONS)
        denied = DeniedTokens(watched)
        services = Services(
            database=database,
            watched=watched,
            cache=BookCache(settings),
            doorbell=Doorbell(settings),
            denied=denied,
            verifier=TokenVerifier(keys.public, [API], denied.check),
            cursors=cursors,
            exports=asyncio.Semaphore(export_routes.AT_ONCE),
            imports=Places("imports", _IMPORTS_OF_ONE_USER, refusals),
            lists=turns_for_lists(busy(refusals, "lists")),
            rates=rates,
            refusals=refusals,
            if_match_required=settings.if_match_required,
        )
        app.state.services = services
        app.state.login = Login(
            server=LoginServer(engine, keys, settings.access_token_lifetime, settings.refresh_token_lifetime),
            keys=keys,
            verifier=TokenVerifier(keys.public, AUDIENCES, denied.check),
            hashing=Turnstile(at_once=_PASSWORD_CHECKS_AT_ONCE, waiting=_WAITING),
            lookups=Turnstile(at_once=_LOOKUPS_AT_ONCE, waiting=_WAITING),
        )
        services.doorbell.start()
        with contextlib.suppress(BookstoreError):  # tried again each second
            await denied.read()
        works = (keep_purging(database), denied.run(), keys.keep_current())
        tasks = app.state.works = [asyncio.create_task(work) for work in works]
        try:
            async with rates.shared():
                yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            services.doorbell.close()
            await services.cache.close()
            await services.database.close()
            await watched.close()
            engine.dispose()

    app = _described(lifespan)
    app.state.refusals = refusals
    # What is streamed takes long, and must not take the places of what does not; exports wait for theirs.
    exports = {export_routes.EXPORT_PATH: settings.requests_max}
    pages = docs_routes(app)
    app.add_middleware(
        Room,
        places=settings.requests_max,
        apart={IMPORT_PATH: _IMPORTS_AT_ONCE, **exports},
        ready=frozenset(page.path for page in pages),
        refusals=refusals,
    )
    app.add_middleware(Limits, body_max_bytes=settings.body_max_bytes, streamed=frozenset({IMPORT_PATH}))
    app.add_middleware(Admission, rates=rates, refusals=refusals)
    app.add_middleware(CutShort)
    app.add_middleware(RequestMetrics, registry=registry)
    problem_handlers.install(app)
    app.router.routes += health_routes(_checks(app), registry, required=frozenset({"database"}))
    app.router.routes += pages
    app.router.routes += problem_pages()
    # Around all of it: what answers an unforeseen error is outside of every middleware that is added.
    stack = app.build_middleware_stack()
    if settings.origins:
        stack = Cors(stack, settings.origins)
    app.middleware_stack = ResponseHeaders(stack, hsts_seconds=settings.hsts_seconds)
    if settings.proxies:
        app.middleware_stack = cast("ASGIApp", ProxyHeadersMiddleware(app.middleware_stack, settings.proxies))  # type: ignore[arg-type]
    return app


def openapi_document() -> dict[str, Any]:
    """The description of the API; it asks for no settings and opens nothing."""
    return _described().openapi()


def _described(lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None) -> FastAPI:
    """All that the description tells of."""
    app = FastAPI(
        title="Bookstore",
        version=VERSION,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        license_info=LICENSE,
        servers=SERVERS,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # Ours is made once (`docs_routes`), FastAPI's anew for each call.
        openapi_url=None,
        # A redirect would turn a POST with a trailing slash into a second request; such a path is unknown.
        redirect_slashes=False,
    )
    # Who must log in must also ask for nothing that the call does not know (`requires`).
    refused = problems.responses(InvalidInputError)
    for router in (books_router, import_router, export_routes.router):
        app.include_router(router, responses=refused)
    app.include_router(auth_router)
    app.include_router(account_router, responses=refused)
    describe(app)
    return app


def _checks(app: FastAPI) -> dict[str, Check]:
    """Only the database is required: without the cache reads cost more, without the broker events wait."""

    async def database() -> None:
        async with app.state.services.watched.read() as connection:
            await connection.execute(text("SELECT 1"))

    async def broker() -> None:
        await app.state.services.doorbell.check()

    async def cache() -> None:
        await app.state.services.cache.ping()

    return {"database": database, "broker": broker, "cache": cache}
