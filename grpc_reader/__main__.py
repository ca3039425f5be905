"""The reader: serves gRPC and records events (`serve`), a client for each of its calls, and dead letters.

Exit codes: 0 done, 1 one sentence on standard error says what went wrong, 2 the command line is wrong,
130 a call was ended with Ctrl-C.
"""

import sys

if __name__ == "__main__" and sys.argv[1:2] == ["serve"]:
    # The imports below take a second, in which the process would die of a signal.
    from common import interrupts

    interrupts.end_at_once()

import argparse
import os
import re
from collections.abc import Callable, Iterable

import grpc
from google.protobuf.json_format import MessageToJson
from google.protobuf.timestamp_pb2 import Timestamp

from common.books import BOOK_ID_MAX
from common.errors import StartError
from common.logs import configure_logging
from common.terminal import printable
from grpc_reader.client import Client, log_in
from grpc_reader.settings import ClientSettings, DeadLetterSettings, ReaderSettings
from protos.bookstore.v1.books_pb2 import Book
from protos.bookstore.v1.events_pb2 import DeliveredEvent

_INT32_MAX = 2**31 - 1
_INT64_MAX = 2**63 - 1
_PLAIN_NUMBER = re.compile("0|[1-9][0-9]{0,18}")
_UNAVAILABLE_HINT = "; check GRPC_ADDRESS or GRPC_PORT, and that the reader runs"


def _book_line(book: Book) -> str:
    return f"{book.id}  v{book.version}  {book.publication_date}  {book.title} — {book.author}"


def _event_line(event: DeliveredEvent) -> str:
    latency = (event.record_time.ToNanoseconds() - event.time.ToNanoseconds()) / 1e6
    kind = event.type.removeprefix("bookstore.book.").removesuffix(".v1")
    return (
        f"{event.position}  {_moment(event.record_time)}  {kind:<7}"
        f"  book {event.book_id} v{event.book_version}  {event.book.title} — {event.book.author}"
        f"  ({latency:.1f} ms, {event.id})"
    )


def _moment(time: Timestamp) -> str:
    return time.ToDatetime().isoformat(sep=" ", timespec="milliseconds")


def _print(messages: Iterable[Book | DeliveredEvent], *, as_json: bool) -> None:
    for message in messages:
        if as_json:
            line = MessageToJson(message, indent=None, ensure_ascii=False, preserving_proto_field_name=True)
        else:
            line = _book_line(message) if isinstance(message, Book) else _event_line(message)
        print(printable(line), flush=True)


def _get(client: Client, arguments: argparse.Namespace) -> Iterable[Book]:
    yield client.get(arguments.id)


def _list(client: Client, arguments: argparse.Namespace) -> Iterable[Book]:
    for page in client.pages(arguments.author, arguments.title, arguments.page_size):
        yield from page
        if not arguments.all:
            return


def _events(client: Client, arguments: argparse.Namespace) -> Iterable[DeliveredEvent]:
    return client.events(arguments.book, arguments.limit)


def _watch(client: Client, arguments: argparse.Namespace) -> Iterable[DeliveredEvent]:
    after = arguments.after
    if after is None:
        newest = client.events(0, 1)
        after = newest[0].position if newest else 0
    return client.watch(after, arguments.book)


def _call(arguments: argparse.Namespace) -> None:
    settings = ClientSettings.from_environment()
    try:
        with Client(settings.address, log_in(settings), settings.grpc_client_tls) as client:
            _print(arguments.call(client, arguments), as_json=arguments.json)
    except grpc.RpcError as error:
        hint = _UNAVAILABLE_HINT if error.code() is grpc.StatusCode.UNAVAILABLE else ""
        raise StartError(f"{error.code().name}: {printable(error.details() or '')}{hint}") from None


# A call needs neither database nor broker, whose libraries take three times as long to import as the rest.
# So the two commands that need them import them.


def _serve(_: argparse.Namespace) -> None:
    from grpc_reader.server import serve  # noqa: PLC0415

    settings = ReaderSettings.from_environment()
    configure_logging(settings.log_level)
    serve(settings)


def _dead(arguments: argparse.Namespace) -> None:
    from grpc_reader.dead_commands import list_dead, redrive_dead, show_dead  # noqa: PLC0415

    settings = DeadLetterSettings.from_environment()
    if arguments.verb == "list":
        list_dead(settings, arguments.limit, as_json=arguments.json)
    elif arguments.verb == "show":
        show_dead(settings, arguments.id, as_json=arguments.json)
    else:
        redrive_dead(settings, arguments.ids, as_json=arguments.json)


def _add_dead(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "list, show and redrive what could not be recorded; needs BROKER_URL"
    dead = commands.add_parser("dead", help=text, description=text)
    verbs = dead.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="print a line for each dead letter, the oldest first")
    listing.add_argument(
        "--limit", type=_number(1, _INT64_MAX), default=100, help="how many at most, by default 100"
    )
    show = verbs.add_parser("show", help="print all that is known of one, with its body")
    show.add_argument("id", metavar="ID")
    redrive = verbs.add_parser("redrive", help="give dead letters to the reader again")
    chosen = redrive.add_mutually_exclusive_group(required=True)
    chosen.add_argument("ids", nargs="*", default=[], metavar="ID", help="as `dead list` shows it")
    chosen.add_argument("--all", action="store_true", help="all that are there now")
    for verb in (listing, show, redrive):
        verb.add_argument("--json", action="store_true", help="print one JSON object a line")
        verb.set_defaults(run=_dead)


def _number(lowest: int, highest: int) -> Callable[[str], int]:
    """A type of argparse: plain digits within bounds, for protobuf has no words for people."""

    def number(text: str) -> int:
        if _PLAIN_NUMBER.fullmatch(text) and lowest <= int(text) <= highest:
            return int(text)
        raise argparse.ArgumentTypeError(f"must be a whole number from {lowest} to {highest}")

    return number


def _text(text: str) -> str:
    """A type of argparse: what can be sent as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("must be text in UTF-8") from None
    return text


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m grpc_reader", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("serve", help="serve gRPC, and record and print events").set_defaults(run=_serve)

    def command(name: str, call: Callable[..., object], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--json", action="store_true", help="print one JSON object a line")
        added.set_defaults(run=_call, call=call)
        return added

    command("get", _get, "print one book").add_argument("id", type=_number(1, BOOK_ID_MAX), metavar="ID")
    listing = command("list", _list, "print a page of books")
    listing.add_argument("--author", type=_text, default="", help="only books whose author begins with this")
    listing.add_argument("--title", type=_text, default="", help="only books whose title begins with this")
    listing.add_argument(
        "--page-size", type=_number(0, _INT32_MAX), default=0, help="books a page: 1 to 200, by default 50"
    )
    listing.add_argument("--all", action="store_true", help="print all pages")
    events = command("events", _events, "print recorded events, newest first")
    events.add_argument(
        "--book", type=_number(0, BOOK_ID_MAX), default=0, metavar="ID", help="only events of this book"
    )
    events.add_argument(
        "--limit", type=_number(1, _INT64_MAX), default=50, help="how many at most, by default 50"
    )
    watch = command("watch", _watch, "print events as they are recorded, until interrupted")
    watch.add_argument(
        "--after",
        type=_number(0, _INT64_MAX),
        metavar="POSITION",
        help="begin after it; by default with new ones",
    )
    watch.add_argument(
        "--book", type=_number(0, BOOK_ID_MAX), default=0, metavar="ID", help="only events of this book"
    )
    _add_dead(commands)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit code."""
    parsed = _arguments().parse_args(arguments)
    try:
        parsed.run(parsed)
    except StartError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our lines has left; Python must not complain about it while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 0 if parsed.command == "watch" else 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
