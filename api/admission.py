"""Who is let in: so many calls a second from one address, and so many at once (docs/adr/0019)."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from fastapi import HTTPException
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.addresses import UNKNOWN, network_of
from api.metrics import Refusals
from api.problems import OVERLOADED, STATUSES, answer
from api.rates import WINDOW_SECONDS, Rates

ADDRESS, USER, LOGIN = "address", "user", "login"
_OPEN = frozenset({"/livez", "/readyz", "/metrics"})
# They share a few threads, and most of them cost a password check.
_LOGIN_PATHS = frozenset({"/v1/auth/token", "/v1/auth/password", "/v1/auth/revoke", "/v1/auth/sign-out"})
RATED = "/v1/"
_LEFT = "bookstore.rates"
_ALL = ""


class Admission:
    """Refuses calls of an address that makes too many (429), before anything else is done for them.

    What is left to the caller stands in the answers of `/v1` (draft-ietf-httpapi-ratelimit-headers). Health
    and metrics are open to everybody at any time.
    """

    def __init__(self, app: ASGIApp, *, rates: Rates, refusals: Refusals) -> None:
        self._app = app
        self._rates = rates
        self._refusals = refusals
        self._policies = ", ".join(
            f'"{name}";q={quota};w={WINDOW_SECONDS}' for name, quota in rates.quotas.items()
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: hand on, or refuse; either way say what is left."""
        if scope["type"] != "http" or (path := scope["path"]) in _OPEN:
            await self._app(scope, receive, send)
            return
        left: dict[str, int] = {}
        scope[_LEFT] = left
        named = self._named(left, send) if path.startswith(RATED) and self._policies else send
        client = scope["client"]
        address = network_of(client[0]) if client else UNKNOWN
        is_login = path in _LOGIN_PATHS and scope["method"] == "POST"
        policies = (ADDRESS, LOGIN) if is_login else (ADDRESS,)
        for policy in policies:
            if not _take(self._rates, policy, address, left):
                self._refusals.count(policy)
                await answer(STATUSES[429], _sentence(self._rates, policy))(scope, receive, named)
                return
        await self._app(scope, receive, named)

    def _named(self, left: dict[str, int], send: Send) -> Send:
        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["RateLimit-Policy"] = self._policies
                if left:
                    headers["RateLimit"] = ", ".join(
                        f'"{policy}";r={number};t={WINDOW_SECONDS}' for policy, number in left.items()
                    )
            await send(message)

        return named


class Room:
    """Lets so many calls be in work at once, and refuses the others (503) at once.

    Each path in `apart` has so many places of its own. Health and metrics need none, nor do the paths in
    `ready`, whose answers are made and wait for nothing but the client.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        places: int,
        apart: Mapping[str, int],
        ready: frozenset[str],
        refusals: Refusals,
    ) -> None:
        self._app = app
        self._placeless = _OPEN | ready
        self._free = {_ALL: places, **apart}
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: hand on while there is room."""
        if scope["type"] != "http" or (path := scope["path"]) in self._placeless:
            await self._app(scope, receive, send)
            return
        kind = path if path in self._free else _ALL
        if not self._free[kind]:
            self._refusals.count("overloaded")
            await answer(OVERLOADED, OVERLOADED.example)(scope, receive, send)
            return
        self._free[kind] -= 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._free[kind] += 1


class Places:
    """So many for each user, of what takes long, so that nobody keeps out all others."""

    def __init__(self, what: str, each: int, refusals: Refusals) -> None:
        self._what = what
        self._each = each
        self._busy = busy(refusals, what)
        self._taken: Counter[str] = Counter()

    @contextmanager
    def of(self, username: str) -> Iterator[None]:
        """One of the user's, until the block ends; HTTPException 503 when none is free."""
        if self._taken[username] >= self._each:
            raise self._busy(
                f"There may be {self._each} {self._what} of one user at once; try again when one has ended."
            )
        self._taken[username] += 1
        try:
            yield
        finally:
            self._taken[username] -= 1
            self._taken += Counter()  # forgets who has none


def busy(refusals: Refusals, what: str) -> Callable[[str], HTTPException]:
    """Makes the answer 503 of a sentence, and counts it as a refusal of `what`."""

    def refused(sentence: str) -> HTTPException:
        refusals.count(what)
        return HTTPException(503, sentence)

    return refused


def take_user(rates: Rates, refusals: Refusals, request: HTTPConnection, username: str) -> None:
    """Count a call of an authenticated user; HTTPException 429 when it is one too many."""
    if not _take(rates, USER, username, request.scope.get(_LEFT, {})):
        refusals.count(USER)
        raise HTTPException(429, _sentence(rates, USER))


def _take(rates: Rates, policy: str, caller: str, left: dict[str, int]) -> bool:
    if policy not in rates.quotas:
        return True
    found = rates.take(policy, caller)
    left[policy] = found or 0
    return found is not None


def _sentence(rates: Rates, policy: str) -> str:
    whose = {ADDRESS: "calls from one address", USER: "calls of one user", LOGIN: "logins from one address"}
    return f"There may be {rates.quotas[policy]} {whose[policy]} in a second; try again in the next."
