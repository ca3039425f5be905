import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from common import turns
from common.turns import Turns

pytestmark = pytest.mark.anyio
EACH, TOGETHER, WAITING = 2, 3, 4


class BusyError(Exception):
    """What the users of these turns are told."""


class Calls:
    """Calls that take their turn and keep it until they are told to end."""

    def __init__(self) -> None:
        self.refused = 0
        self.inside: list[str] = []
        self.turns = Turns(each=EACH, together=TOGETHER, waiting=WAITING, refused=self._refusal)
        self._tasks: list[asyncio.Task[None]] = []
        self._end = asyncio.Event()

    async def begin(self, username: str, count: int) -> list[asyncio.Task[None]]:
        begun = [asyncio.create_task(self._call(username)) for _ in range(count)]
        self._tasks += begun
        await self._settle()
        return begun

    async def leave(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await self._settle()

    async def end(self) -> None:
        self._end.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _call(self, username: str) -> None:
        async with self.turns.of(username):
            self.inside.append(username)
            try:
                await self._end.wait()
            finally:
                self.inside.remove(username)

    async def _settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    def _refusal(self, sentence: str) -> BusyError:
        self.refused += 1
        return BusyError(sentence)


@asynccontextmanager
async def begun() -> AsyncIterator[Calls]:
    calls = Calls()
    try:
        yield calls
    finally:
        await calls.end()


async def test_of_one_user_a_few_are_in_and_a_few_wait_and_the_rest_are_refused() -> None:
    async with begun() as calls:
        tasks = await calls.begin("a", EACH + WAITING + 3)
        refused = [task for task in tasks if task.done()]
        assert calls.inside == ["a"] * EACH
        assert [type(task.exception()) for task in refused] == [BusyError] * 3
        assert calls.refused == 3
        await calls.begin("b", 1)
        assert calls.inside == ["a", "a", "b"]


async def test_all_users_together_are_no_more_than_so_many() -> None:
    async with begun() as calls:
        for username in "abc":
            await calls.begin(username, EACH)
        assert len(calls.inside) == TOGETHER


async def test_whoever_leaves_gives_the_turn_to_the_next_and_is_forgotten() -> None:
    async with begun() as calls:
        inside = await calls.begin("a", EACH)
        waiting = await calls.begin("a", WAITING)
        await calls.leave(waiting[:1])
        await calls.begin("a", 1)
        assert calls.refused == 0
        await calls.leave(inside)
        assert len(calls.inside) == EACH
    assert calls.turns._own == {}  # noqa: SLF001  a name would stay for ever, and nobody would see it


async def test_nobody_waits_longer_than_the_patience_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_PATIENCE_SECONDS", 0.05)
    async with begun() as calls:
        _, _, late = await calls.begin("a", EACH + 1)
        with pytest.raises(BusyError):
            await late
        # What it waited for is not lost: two of two are free when those inside have gone.
        assert calls.inside == ["a"] * EACH
    async with calls.turns.of("a"), calls.turns.of("a"):
        assert calls.refused == 1
