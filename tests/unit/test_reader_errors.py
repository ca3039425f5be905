from typing import Any

from google.protobuf.message import Message
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]
    BadRequest,
    ErrorInfo,
    ResourceInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from grpc import StatusCode

from common.errors import (
    BookNotFoundError,
    BookstoreError,
    DatabaseUnavailableError,
    InvalidInputError,
    MissingScopeError,
    StaleVersionError,
    Violation,
)
from grpc_reader.errors import ROWS, to_status


def unpack(status: Status, kind: type[Message]) -> Any:  # noqa: ANN401 - its fields are known at run time
    for detail in status.details:
        if detail.Is(kind.DESCRIPTOR):
            message = kind()
            detail.Unpack(message)
            return message
    raise AssertionError(f"no {kind.__name__} in {status}")


def test_every_error_of_the_domain_has_a_row() -> None:
    missing = {kind for kind in BookstoreError.__subclasses__() if kind.__module__ == "common.errors"} - set(
        ROWS
    )
    assert not missing, "grpc_reader/errors.py must say what these mean"


def test_reasons_are_unique() -> None:
    reasons = [reason for _, reason, _ in ROWS.values()]
    assert len(set(reasons)) == len(reasons)


def test_every_row_gives_a_status_with_an_error_info() -> None:
    examples = [
        BookNotFoundError(7),
        StaleVersionError(7, 2),
        MissingScopeError("books:read"),
        InvalidInputError(Violation("/id", "must be 1 or more")),
    ]
    simple = [kind("a sentence") for kind in ROWS if kind not in {type(each) for each in examples}]
    for error in examples + simple:
        status = to_status(error)
        code, reason, _ = ROWS[type(error)]
        assert status.code == code.value[0]
        assert status.message == str(error)
        info = unpack(status, ErrorInfo)
        assert (info.reason, info.domain) == (reason, "bookstore")


def test_what_is_said_beside_the_error() -> None:
    violations = unpack(to_status(InvalidInputError(Violation("/page_size", "must not be"))), BadRequest)
    assert [(v.field, v.description) for v in violations.field_violations] == [("page_size", "must not be")]
    resource = unpack(to_status(BookNotFoundError(7)), ResourceInfo)
    assert (resource.resource_type, resource.resource_name) == ("bookstore.v1.Book", "7")
    assert unpack(to_status(MissingScopeError("books:read")), ErrorInfo).metadata == {"scope": "books:read"}
    assert unpack(to_status(DatabaseUnavailableError("down")), RetryInfo).retry_delay.seconds == 1


def test_an_error_without_a_row_says_nothing_of_itself() -> None:
    status = to_status(RuntimeError("SELECT secret FROM vault"))
    assert status.code == StatusCode.INTERNAL.value[0]
    assert "secret" not in str(status)
