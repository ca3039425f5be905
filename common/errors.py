"""What can go wrong, split by what the caller can do about it. Nothing here knows HTTP or gRPC."""

from dataclasses import dataclass


class BookstoreError(Exception):
    """An answer to a request that is not the one hoped for; each service has a row for every subclass."""


class BookNotFoundError(BookstoreError):
    """No book has this id: look for another."""

    def __init__(self, book_id: int) -> None:
        super().__init__(f"There is no book {book_id}.")
        self.book_id = book_id


@dataclass(frozen=True)
class Violation:
    """One fault in the input: `pointer` is a JSON Pointer (RFC 6901) into it, `detail` says what to do."""

    pointer: str
    detail: str


class InvalidInputError(BookstoreError):
    """The input breaks a rule: mend what `violations` name and send it again."""

    def __init__(self, *violations: Violation) -> None:
        super().__init__("; ".join(f"{fault.pointer}: {fault.detail}" for fault in violations))
        self.violations = violations


class StaleVersionError(BookstoreError):
    """The book has changed since the caller read it: read it again."""

    def __init__(self, book_id: int, current_version: int) -> None:
        super().__init__(f"Book {book_id} is at version {current_version} now; read it again.")
        self.book_id = book_id
        self.current_version = current_version


class ConditionRequiredError(BookstoreError):
    """Changes must say which version they mean: read the book and send its version along."""


class KeyReusedError(BookstoreError):
    """The idempotency key stands for another request: send this one with a key of its own."""


class RequestInWorkError(BookstoreError):
    """The request of this idempotency key is still being done; nothing was changed here: ask again."""


class UnauthenticatedError(BookstoreError):
    """No token, or one that is not (or no longer) good: get another."""


class MissingScopeError(BookstoreError):
    """The token is good but does not carry `scope`: ask for it, or for the right to it."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"This call needs the scope {scope}.")
        self.scope = scope


class ContendedError(BookstoreError):
    """A deadlock or a lock wait that took too long; nothing was changed: try again."""


class DatabaseUnavailableError(BookstoreError):
    """The database cannot be reached; nothing was changed: try again later."""


class OutcomeUnknownError(BookstoreError):
    """The connection was lost while committing: the change is whole or not there; look first."""


class KeysUnavailableError(BookstoreError):
    """The keys that tokens are verified with cannot be had at the moment: try again later."""


class StartError(Exception):
    """The process cannot start; the message is one sentence that says what to do."""
