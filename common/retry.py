import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar

from tenacity import (
    AsyncRetrying,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_fixed,
)

Function = TypeVar("Function", bound=Callable[..., Any])


def retry(
    times: int = 3,
    delay: float = 1,
    exceptions: type[Exception] | tuple[type[Exception], ...] = Exception,
    within: float = math.inf,
) -> Callable[[Function], Function]:
    """Call the decorated function again while it raises one of `exceptions`, `times` calls in all.

    `delay` seconds lie between two calls, and none begins later than `within` seconds after the first. The
    last exception is raised as it is; any other goes through at once, and so do cancellation and interrupts,
    which are no `Exception`. Works for plain and for `async` functions; the latter wait without blocking the
    loop. A bad argument is a ValueError or TypeError where the function is decorated, not where it is called.
    """
    if times < 1:
        raise ValueError(f"times must be at least 1, not {times}")
    if delay < 0:
        raise ValueError(f"delay must not be negative, not {delay}")
    if within < 0:
        raise ValueError(f"within must not be negative, not {within}")
    kinds = exceptions if isinstance(exceptions, tuple) else (exceptions,)
    if not kinds or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        raise TypeError(f"exceptions must be an Exception class or a tuple of them, not {exceptions!r}")
    policy: dict[str, Any] = {
        "stop": stop_after_attempt(times) | stop_before_delay(within),
        "wait": wait_fixed(delay),
        "retry": retry_if_exception_type(kinds),
        "reraise": True,
    }

    def decorate(function: Function) -> Function:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def call_async(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  the wrapped function's own
                return await AsyncRetrying(**policy)(function, *args, **kwargs)

            return call_async  # type: ignore[return-value]  # the same signature, which TypeVar cannot say

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  the wrapped function's own
            return Retrying(**policy)(function, *args, **kwargs)

        return call  # type: ignore[return-value]  # as above

    return decorate
