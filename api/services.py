import asyncio
from dataclasses import dataclass
from typing import cast

from fastapi import Request

from api.admission import Places
from api.books.cursors import Cursors
from api.doorbell import Doorbell
from api.metrics import Refusals
from api.rates import Rates
from common.cache import BookCache
from common.database import Database
from common.denied_tokens import DeniedTokens
from common.tokens import TokenVerifier
from common.turns import Turns


@dataclass(frozen=True)
class Services:
    """What the calls of the API work with; built once, by the application's lifespan.

    `exports` has a place for each that may be under way, `imports` some for each user, `lists` turns at those
    that may be dear. `if_match_required`: a change of a book must say which version it means. `watched` is
    the database, over connections that no call takes.
    """

    database: Database
    watched: Database
    cache: BookCache
    doorbell: Doorbell
    denied: DeniedTokens
    verifier: TokenVerifier
    cursors: Cursors
    exports: asyncio.Semaphore
    imports: Places
    lists: Turns
    rates: Rates
    refusals: Refusals
    if_match_required: bool


async def services_of(request: Request) -> Services:
    """The services of the application that answers this request. Async, for a plain one costs a thread."""
    return cast("Services", request.app.state.services)
