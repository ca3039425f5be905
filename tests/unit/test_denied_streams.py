"""What a stream is made from is closed when its caller is denied, whoever still holds it."""

import asyncio
import time
from collections.abc import AsyncGenerator

import pytest

from common.denied_tokens import Admission
from common.errors import UnauthenticatedError
from common.tokens import Principal

pytestmark = pytest.mark.anyio

NOW = int(time.time())
ALICE = Principal("alice", frozenset(), NOW, NOW + 900, "token", frozenset({"token"}))


class Source:
    """Two items, then none for ever."""

    def __init__(self) -> None:
        self.is_closed = False
        self.items = self._items()

    async def _items(self) -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.is_closed = True


@pytest.mark.parametrize("taken", [1, 2])
async def test_at_once_while_an_item_is_dealt_with(taken: int) -> None:
    admission, source = Admission(ALICE), Source()
    admitted = admission.while_admitted(source.items)
    for _ in range(taken):
        await anext(admitted)
    admission.deny()
    for _ in range(3):
        await asyncio.sleep(0)
    assert source.is_closed
    with pytest.raises(UnauthenticatedError):
        await anext(admitted)


async def test_also_by_whoever_takes_the_next_before_it_is_closed() -> None:
    admission, source = Admission(ALICE), Source()
    admitted = admission.while_admitted(source.items)
    await anext(admitted)
    admission.deny()
    with pytest.raises(UnauthenticatedError):
        await anext(admitted)
    assert source.is_closed


async def test_while_nothing_comes() -> None:
    admission, source = Admission(ALICE), Source()
    admitted = admission.while_admitted(source.items)
    assert [await anext(admitted), await anext(admitted)] == [1, 2]
    waiting = asyncio.create_task(anext(admitted))
    await asyncio.sleep(0)
    admission.deny()
    with pytest.raises(UnauthenticatedError):
        await waiting
    assert source.is_closed


async def test_when_whoever_takes_them_has_enough() -> None:
    admission, source = Admission(ALICE), Source()
    admitted = admission.while_admitted(source.items)
    await anext(admitted)
    await admitted.aclose()
    assert source.is_closed
