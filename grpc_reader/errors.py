"""What the domain's errors mean in gRPC: one table (AIP-193, google.rpc.error_details)."""

from collections.abc import Callable
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]  # not marked as typed
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
    ConditionRequiredError,
    ContendedError,
    DatabaseUnavailableError,
    InvalidInputError,
    KeyReusedError,
    KeysUnavailableError,
    MissingScopeError,
    OutcomeUnknownError,
    RequestInWorkError,
    StaleVersionError,
    UnauthenticatedError,
)

DOMAIN = "bookstore"


class DeadlineExceededError(Exception):
    """The time that the client gave the call is over: ask for less, or give more."""


class TooManyCallsError(Exception):
    """As many are being answered as this process takes on: wait, then try again."""


class StreamEndedError(Exception):
    """The server ends a stream that the client may take up again from the last position that it has seen."""


def _violations(error: InvalidInputError) -> BadRequest:
    return BadRequest(
        field_violations=[
            BadRequest.FieldViolation(field=fault.pointer.lstrip("/"), description=fault.detail)
            for fault in error.violations
        ]
    )


def _book(error: BookNotFoundError | StaleVersionError) -> ResourceInfo:
    return ResourceInfo(
        resource_type="bookstore.v1.Book", resource_name=str(error.book_id), description=str(error)
    )


def _retry(_: Exception) -> RetryInfo:
    info = RetryInfo()
    info.retry_delay.FromSeconds(1)
    return info


# The class, its code, the reason that stays the same for programs, and what is said beside it.
ROWS: dict[type[Exception], tuple[StatusCode, str, Callable[[Any], Any] | None]] = {
    BookNotFoundError: (StatusCode.NOT_FOUND, "BOOK_NOT_FOUND", _book),
    InvalidInputError: (StatusCode.INVALID_ARGUMENT, "INVALID_INPUT", _violations),
    StaleVersionError: (StatusCode.ABORTED, "STALE_VERSION", _book),
    ConditionRequiredError: (StatusCode.FAILED_PRECONDITION, "CONDITION_REQUIRED", None),
    KeyReusedError: (StatusCode.FAILED_PRECONDITION, "KEY_REUSED", None),
    RequestInWorkError: (StatusCode.ABORTED, "REQUEST_IN_WORK", _retry),
    UnauthenticatedError: (StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", None),
    MissingScopeError: (StatusCode.PERMISSION_DENIED, "MISSING_SCOPE", None),
    ContendedError: (StatusCode.ABORTED, "CONTENDED", _retry),
    DatabaseUnavailableError: (StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE", _retry),
    OutcomeUnknownError: (StatusCode.UNKNOWN, "OUTCOME_UNKNOWN", None),
    KeysUnavailableError: (StatusCode.UNAVAILABLE, "KEYS_UNAVAILABLE", _retry),
    DeadlineExceededError: (StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", None),
    TooManyCallsError: (StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS", _retry),
    StreamEndedError: (StatusCode.UNAVAILABLE, "STREAM_ENDED", _retry),
}
ANSWERED = (BookstoreError, DeadlineExceededError, StreamEndedError, TooManyCallsError)
_UNEXPECTED = (StatusCode.INTERNAL, "UNEXPECTED", None)


def to_status(error: Exception) -> Status:
    """The answer to an error. One that has no row is a fault of ours: its message stays in our log."""
    known = next((ROWS[kind] for kind in type(error).__mro__ if kind in ROWS), None)
    code, reason, detail = known or _UNEXPECTED
    metadata = {"scope": error.scope} if isinstance(error, MissingScopeError) else {}
    details: list[Any] = [ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)]
    if detail is not None:
        details.append(detail(error))
    status = Status(code=code.value[0], message=str(error) if known else "Something went wrong on our side.")
    for message in details:
        packed = AnyMessage()
        packed.Pack(message)
        status.details.append(packed)
    return status
