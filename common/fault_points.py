"""Places where a test can make a process die or wait. Only tests arm them; unarmed they do nothing."""

from collections.abc import Callable

_on_reach: Callable[[str], None] | None = None


def reach(name: str) -> None:
    """The process is at the place called `name`."""
    if _on_reach is not None:
        _on_reach(name)


def arm(on_reach: Callable[[str], None]) -> None:
    """Call `on_reach` with the name of each place that is reached from now on."""
    global _on_reach  # noqa: PLW0603  one process, one set of places
    _on_reach = on_reach
