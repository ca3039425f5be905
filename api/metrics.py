from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LABELS = ("method", "route", "status")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Refusals:
    """Counts what is refused because there is too much of it, by a reason that is one of a few words."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._refused = Counter(
            "api_refused", "Calls and connections beyond a limit.", ("reason",), registry=registry
        )

    def count(self, reason: str) -> None:
        """One more."""
        self._refused.labels(reason).inc()


class RequestMetrics:
    """Counts and times requests by method, route template and status.

    None of the three is taken from the client as it is, so the number of series is bounded.
    """

    def __init__(self, app: ASGIApp, *, registry: CollectorRegistry) -> None:
        self._app = app
        self._requests = Counter("api_requests", "Requests answered.", _LABELS, registry=registry)
        self._seconds = Histogram(
            "api_request_seconds",
            "From the first byte of a request to the last of its answer.",
            _LABELS[:2],
            buckets=_BUCKETS,
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: hand on, and note the status and the time when it is over, however it ends."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = getattr(scope.get("route"), "path", "other")
            self._requests.labels(method, route, status).inc()
            self._seconds.labels(method, route).observe(perf_counter() - began)
