"""What clients were built from: field numbers and types never change, and stubs are what the files say."""

import json
import subprocess
import sys
from pathlib import Path

from protos.bookstore.v1 import books_pb2, events_pb2
from protos.generate import differences, image

ROOT = Path(__file__).parents[2]
MESSAGES = {
    "Book": "1 int64 id, 2 string title, 3 string author, 4 string publication_date, 5 int32 version,"
    " 6 message create_time, 7 message update_time",
    "GetBookRequest": "1 int64 id",
    "GetBookResponse": "1 message book",
    "ListBooksRequest": "1 int32 page_size, 2 string page_token, 3 string author, 4 string title",
    "ListBooksResponse": "1 message books, 2 string next_page_token",
    "DeliveredEvent": "1 int64 position, 2 string id, 3 string type, 4 int64 book_id, 5 int32 book_version,"
    " 6 message time, 7 message record_time, 8 message book",
    "ListDeliveredEventsRequest": "1 int32 page_size, 2 string page_token, 3 int64 book_id",
    "ListDeliveredEventsResponse": "1 message events, 2 string next_page_token",
    "WatchDeliveredEventsRequest": "1 int64 after_position, 2 int64 book_id",
    "WatchDeliveredEventsResponse": "1 message event",
}
SERVICES = {
    "BookService": "GetBook(GetBookRequest) GetBookResponse, ListBooks(ListBooksRequest) ListBooksResponse",
    "EventService": "ListDeliveredEvents(ListDeliveredEventsRequest) ListDeliveredEventsResponse,"
    " WatchDeliveredEvents(WatchDeliveredEventsRequest) stream WatchDeliveredEventsResponse",
}
TYPES = {3: "int64", 5: "int32", 9: "string", 11: "message"}


def test_messages_are_those_that_clients_know() -> None:
    found = {
        name: ", ".join(f"{field.number} {TYPES[field.type]} {field.name}" for field in message.fields)
        for file in (books_pb2.DESCRIPTOR, events_pb2.DESCRIPTOR)
        for name, message in file.message_types_by_name.items()
    }
    assert found == MESSAGES
    assert {file.package for file in (books_pb2.DESCRIPTOR, events_pb2.DESCRIPTOR)} == {"bookstore.v1"}


def test_calls_are_those_that_clients_know() -> None:
    found = {
        name: ", ".join(
            f"{call.name}({call.input_type.name}) {'stream ' * call.server_streaming}{call.output_type.name}"
            for call in service.methods
        )
        for file in (books_pb2.DESCRIPTOR, events_pb2.DESCRIPTOR)
        for name, service in file.services_by_name.items()
    }
    assert found == SERVICES


def test_committed_stubs_are_what_the_files_give() -> None:
    assert differences() == []


def test_the_image_that_breaking_changes_are_looked_for_against_has_all_that_is_in_the_files() -> None:
    """If not: `make proto-check`, then `python -m protos.generate --image > tests/contract/protos.json`."""
    committed, fresh = (
        [file for file in json.loads(text)["file"] if file["package"] == "bookstore.v1"]
        for text in ((ROOT / "tests/contract/protos.json").read_text("utf-8"), image())
    )
    assert committed == fresh


def test_the_check_command_says_so() -> None:
    command = [sys.executable, "-m", "protos.generate", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
