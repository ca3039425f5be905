"""A reader that has lost its ticket puts it in place again, with what stands under the keys of before."""

from grpc_reader.ticket import Ticket


def install() -> None:
    Ticket._begin_again = Ticket._open  # type: ignore[method-assign]  # noqa: SLF001  what is broken here
