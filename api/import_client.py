"""`python -m api import`: sends a file to the running API, and says what became of its rows."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import SplitResult, urlencode, urlsplit
from uuid import uuid4

from pydantic import AnyHttpUrl, SecretStr, ValidationError

from common.errors import StartError
from common.retry import retry
from common.settings import AccessToken, ApiClientSettings, explain
from common.terminal import printable
from common.tls import ClientTls

_TIMEOUT_SECONDS = 300
_BLOCK_BYTES = 64 * 1024
_BAR_WIDTH = 40
_REFUSED_WHOLE = frozenset({400, 413, 415, 422})
# The last two are said by proxies.
_PASSING = frozenset({408, 409, 429, 503, 502, 504})
_RETRY_SECONDS = 2
FORMATS = {"csv": "text/csv", "ndjson": "application/x-ndjson", "jsonl": "application/x-ndjson"}


class ImportSettings(ApiClientSettings):
    """Where the API is, and who sends: a token, or a user name and a password."""

    api_url: AnyHttpUrl = AnyHttpUrl("http://127.0.0.1:8000")
    bookstore_token: AccessToken | None = None
    demo_username: str | None = None
    demo_password: SecretStr | None = None


@dataclass
class _Progress:
    """A file that shows on the terminal how much of it was read."""

    file: BinaryIO
    size: int
    shown: bool
    done: int = 0

    def read(self, _: int = -1) -> bytes:
        block = self.file.read(_BLOCK_BYTES)
        self.done += len(block)
        if self.shown:
            part = self.done / self.size if self.size else 1.0
            bar = "#" * int(part * _BAR_WIDTH)
            sys.stderr.write(f"\r[{bar:<{_BAR_WIDTH}}] {part:4.0%}")
            sys.stderr.flush()
        return block


class _TryAgainError(Exception):
    """What may be over in a moment; sent again under the same key, the import goes on where it ended."""


def media_type_of(file: Path, form: str | None) -> str:
    """By `form`, a key of FORMATS, or the end of the file's name; StartError when neither says it."""
    found = FORMATS.get(form or file.suffix.lower().removeprefix("."))
    if found is None:
        raise StartError(f"Say with --format what {file} is: {' or '.join(FORMATS)}.")
    return found


def import_file(file: Path, form: str | None = None, key: str | None = None, retries: int = 5) -> int:
    """0 when the API took the file, rejected rows or not (they are listed); 2 when it refused it whole.

    It is sent again up to `retries` times, under one key, while the API is away or busy. StartError when the
    file cannot be read, or the API does not answer or does not let us in; it tells the key to go on with.
    """
    try:
        settings = ImportSettings()
    except ValidationError as error:
        raise explain(error) from None
    url = urlsplit(str(settings.api_url))
    media_type, key = media_type_of(file, form), key or str(uuid4())
    if not file.is_file():
        raise StartError(f"There is no file {file}.")
    with _reaching(f"Cannot send {file} to {url.geturl()}"):
        post = partial(_post, url, settings.api_client_tls)
        _token(settings, post)  # What cannot begin is told at once.
    headers = {"Content-Type": media_type, "Idempotency-Key": key}
    send = retry(retries + 1, _RETRY_SECONDS, (_TryAgainError, OSError, HTTPException))(_send)
    try:
        with _reaching(f"Cannot send {file} to {url.geturl()}"):
            status, answer = send(settings, post, file, headers)
        return _report(status, answer)
    except _TryAgainError as error:
        raise StartError(f"The import ended early: {error} {_go_on(key)}") from None
    except StartError as error:
        raise StartError(f"{error} {_go_on(key)}") from None
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{_go_on(key)}\n")
        raise


def _go_on(key: str) -> str:
    return f"To go on where it ended, add --idempotency-key {key}."


@contextlib.contextmanager
def _reaching(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise StartError(f"{what}: {reason}.") from None


def _send(
    settings: ImportSettings,
    post: Callable[..., tuple[int, dict[str, Any]]],
    file: Path,
    headers: dict[str, str],
) -> tuple[int, dict[str, Any]]:
    # A token lasts for minutes, an import for as long as it takes.
    headers = {**headers, "Authorization": f"Bearer {_token(settings, post)}"}
    with file.open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        progress = _Progress(opened, size, shown=sys.stderr.isatty())
        status, answer = post("/v1/books:import", progress, {**headers, "Content-Length": str(size)})
        if progress.shown:
            sys.stderr.write("\n")
    if status in _PASSING:
        raise _TryAgainError(_detail(status, answer))
    return status, answer


def _token(settings: ImportSettings, post: Callable[..., tuple[int, dict[str, Any]]]) -> str:
    if settings.bookstore_token is not None:
        return settings.bookstore_token.get_secret_value()
    if settings.demo_username is None or settings.demo_password is None:
        raise StartError("Set BOOKSTORE_TOKEN, or DEMO_USERNAME and DEMO_PASSWORD.")
    form = urlencode(
        {
            "grant_type": "password",
            "username": settings.demo_username,
            "password": settings.demo_password.get_secret_value(),
            "scope": "books:write",
        }
    )
    form_headers = {"Content-Type": "application/x-www-form-urlencoded"}
    status, answer = post("/v1/auth/token", form.encode(), form_headers)
    if "access_token" not in answer:
        raise StartError(f"The login was refused: {_detail(status, answer)}")
    return cast("str", answer["access_token"])


def _post(
    url: SplitResult, tls: ClientTls, path: str, body: bytes | _Progress, headers: dict[str, str]
) -> tuple[int, dict[str, Any]]:
    host = url.hostname or ""
    connection = HTTPConnection(host, url.port, timeout=_TIMEOUT_SECONDS)
    if url.scheme == "https":
        connection = HTTPSConnection(host, url.port, timeout=_TIMEOUT_SECONDS, context=tls.context())
    try:
        # The API may refuse a file before it has all of it, and its answer waits to be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request("POST", url.path.rstrip("/") + path, body, headers)
        response: HTTPResponse = connection.getresponse()
        return response.status, _members(response.read())
    finally:
        connection.close()


def _members(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _detail(status: int, answer: dict[str, Any]) -> str:
    return printable(str(answer.get("detail", f"status {status}")))


def _report(status: int, answer: dict[str, Any]) -> int:
    if status in _REFUSED_WHOLE:
        sys.stderr.write(f"The file was refused: {_detail(status, answer)}\n")
        return 2
    if "accepted" not in answer:
        raise StartError(f"The import ended early: {_detail(status, answer)}")
    lines = [f"accepted {answer['accepted']}, rejected {answer['rejected']}"]
    lines += [f"line {error['line']}: {printable(str(error['reason']))}" for error in answer["errors"]]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0
