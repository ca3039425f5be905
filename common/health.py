"""`/livez`, `/readyz` and `/metrics`, the same on every HTTP port (design, section 4)."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Check = Callable[[], Awaitable[None]]
Facts = Callable[[], Awaitable[Mapping[str, Any]]]
_CHECK_TIMEOUT_SECONDS = 2
_DAMPING_SECONDS = 1.5


class _Dependency:
    """What was seen of a dependency, and whether it counts as down.

    Until it was seen up once, it is down. Later it is down when failed checks have followed each other for
    `_DAMPING_SECONDS` or more with no good one between them, so never after a single one; the first good
    check ends that.
    """

    def __init__(self, check: Check) -> None:
        self._check = check
        self._running: asyncio.Task[None] | None = None
        self._failing_since = float("-inf")
        self.counts_as_down = True

    async def ask_for_certain(self) -> dict[str, str]:
        """What was seen; a first failure is looked at again when the damping time is over.

        So whoever asks once, and waits, is told for certain, and need not have asked before.
        """
        seen = await self.ask()
        if seen["status"] == "down" and not self.counts_as_down:
            await asyncio.sleep(self._failing_since + _DAMPING_SECONDS - monotonic())
            seen = await self.ask()
        return seen

    async def ask(self) -> dict[str, str]:
        """What this very check has seen. One that hangs is not asked a second time meanwhile."""
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(self._check())
            self._running.add_done_callback(lambda task: task.cancelled() or task.exception())
        running = self._running
        # Not asyncio.timeout(), which would wait for the end of a check that cannot be cancelled.
        await asyncio.wait([running], timeout=_CHECK_TIMEOUT_SECONDS)
        running.cancel()
        error = _error_of(running)
        if error is not None:
            self._failed(monotonic())
            return {"status": "down", "error": type(error).__name__}
        self._failing_since = float("inf")
        self.counts_as_down = False
        return {"status": "up"}

    def _failed(self, now: float) -> None:
        self._failing_since = min(self._failing_since, now)
        self.counts_as_down = self.counts_as_down or now - self._failing_since >= _DAMPING_SECONDS


class _Exposition:
    """The figures of a registry as text; however many ask, making it takes no more than a tenth of the loop.

    Whoever asks is told of all that happened before, and waits for that as long as it takes.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._next: asyncio.Task[bytes] | None = None
        self._not_before = 0.0

    async def text(self) -> bytes:
        if self._next is None:
            self._next = asyncio.create_task(self._make())
        return await asyncio.shield(self._next)

    async def _make(self) -> bytes:
        await asyncio.sleep(max(0.0, self._not_before - monotonic()))
        self._next, begun = None, monotonic()
        text = generate_latest(self._registry)
        ended = monotonic()
        self._not_before = ended + 9 * (ended - begun)
        return text


def _error_of(check: asyncio.Task[None]) -> BaseException | None:
    """Whatever a dependency raises means that it is down, and so does its silence."""
    return TimeoutError() if not check.done() or check.cancelled() else check.exception()


async def _no_facts() -> Mapping[str, Any]:
    return {}


def health_routes(
    checks: Mapping[str, Check],
    registry: CollectorRegistry,
    *,
    required: frozenset[str],
    facts: Facts = _no_facts,
) -> list[Route]:
    """Routes for one process. A check raises when its dependency is down, and has two seconds.

    The process is not ready while one of the `required` dependencies counts as down, which a single failed
    check does not bring about; `checks` show what was seen. The others are shown and cost only speed.
    `facts` adds members to the answer of `/readyz`. Errors are named by class, never by message, which may
    carry an address or a secret.
    """
    dependencies = {name: _Dependency(check) for name, check in checks.items()}

    async def livez(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_: Request) -> Response:
        results = await asyncio.gather(
            *(
                dependency.ask_for_certain() if name in required else dependency.ask()
                for name, dependency in dependencies.items()
            )
        )
        found = dict(zip(dependencies, results, strict=True))
        ready = not any(dependencies[name].counts_as_down for name in required)
        body = {"status": "ready" if ready else "not_ready", "checks": found, **await facts()}
        return JSONResponse(body, status_code=200 if ready else 503)

    exposition = _Exposition(registry)

    async def metrics(_: Request) -> Response:
        return Response(await exposition.text(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)]
