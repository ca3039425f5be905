import asyncio
from types import SimpleNamespace

import pytest

from common.retry import retry


class FlakyError(Exception):
    pass


class OtherError(Exception):
    pass


class Calls:
    """Fails `failures` times, then answers with the number of the call."""

    def __init__(self, failures: int, error: BaseException | None = None) -> None:
        self.count = 0
        self._failures = failures
        self.error = error or FlakyError("not yet")

    def ask(self) -> int:
        self.count += 1
        if self.count <= self._failures:
            raise self.error
        return self.count


def test_plain_function_is_called_until_it_succeeds() -> None:
    calls = Calls(2)
    assert retry(times=3, delay=0)(calls.ask)() == 3


def test_async_function_is_called_until_it_succeeds() -> None:
    calls = Calls(2)

    @retry(times=3, delay=0)
    async def ask() -> int:
        return calls.ask()

    assert asyncio.run(ask()) == 3


@pytest.mark.parametrize("times", [1, 2, 5])
def test_no_more_calls_than_times_and_the_last_exception_as_it_is(times: int) -> None:
    calls = Calls(100)
    with pytest.raises(FlakyError, match="not yet") as raised:
        retry(times=times, delay=0)(calls.ask)()
    assert calls.count == times
    assert raised.value is calls.error


@pytest.mark.parametrize("exceptions", [FlakyError, (FlakyError, KeyError)])
def test_only_the_named_exceptions_are_tried_again(
    exceptions: type[Exception] | tuple[type[Exception], ...],
) -> None:
    named, other = Calls(1), Calls(1, OtherError("no"))
    assert retry(times=2, delay=0, exceptions=exceptions)(named.ask)() == 2
    with pytest.raises(OtherError):
        retry(times=2, delay=0, exceptions=exceptions)(other.ask)()
    assert other.count == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), asyncio.CancelledError()])
def test_interrupts_and_cancellation_go_through_at_once(error: BaseException) -> None:
    calls = Calls(1, error)
    with pytest.raises(type(error)):
        retry(times=3, delay=0)(calls.ask)()
    assert calls.count == 1


def test_cancelled_task_ends_while_it_waits_for_the_next_try() -> None:
    async def scenario() -> int:
        calls, begun = Calls(100), asyncio.Event()

        @retry(times=100, delay=60)
        async def ask() -> int:
            begun.set()
            return calls.ask()

        task = asyncio.create_task(ask())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return calls.count

    assert asyncio.run(scenario()) == 1


@pytest.mark.parametrize("times", [0, -1])
def test_times_below_one_is_refused_at_decoration(times: int) -> None:
    with pytest.raises(ValueError, match="times must be at least 1"):
        retry(times=times)


def test_negative_delay_is_refused_at_decoration() -> None:
    with pytest.raises(ValueError, match="delay must not be negative"):
        retry(delay=-0.1)


@pytest.mark.parametrize("exceptions", [BaseException, KeyboardInterrupt, (), "FlakyError", (FlakyError, 3)])
def test_what_is_no_exception_class_is_refused_at_decoration(exceptions: object) -> None:
    with pytest.raises(TypeError, match="exceptions must be"):
        retry(exceptions=exceptions)  # type: ignore[arg-type]  # the point of the test


def test_decorated_function_keeps_its_name_and_arguments() -> None:
    @retry(times=1)
    def add(left: int, *, right: int) -> int:
        """Add."""
        return left + right

    assert (add.__name__, add.__doc__, add(1, right=2)) == ("add", "Add.", 3)


def test_no_call_begins_when_the_time_for_all_of_them_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, now = Calls(100), [0.0]
    monkeypatch.setattr("tenacity.time", SimpleNamespace(monotonic=lambda: now[0]))

    def ask() -> int:
        now[0] += 0.02
        return calls.ask()

    with pytest.raises(FlakyError):
        retry(times=100, delay=0.02, within=0.05)(ask)()
    assert calls.count == 2


def test_negative_time_for_all_calls_is_refused_at_decoration() -> None:
    with pytest.raises(ValueError, match="within must not be negative"):
        retry(within=-1)
