"""`python -m api import`: sends a file to the running API, and says what became of its rows."""

import contextlib
import json
import os
import sys
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import SplitResult, urlencode, urlsplit

from pydantic import AnyHttpUrl, SecretStr, ValidationError

from common.errors import StartError
from common.settings import AccessToken, Settings, explain
from common.terminal import printable

_TIMEOUT_SECONDS = 300
_BLOCK_BYTES = 64 * 1024
_BAR_WIDTH = 40
_REFUSED_WHOLE = frozenset({400, 413, 415, 422})


class ImportSettings(Settings):
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


def import_file(file: Path) -> int:
    """0 when the API took the file, rejected rows or not (they are listed); 2 when it refused it whole.

    StartError when the file cannot be read, or the API does not answer or does not let us in.
    """
    try:
        settings = ImportSettings()
    except ValidationError as error:
        raise explain(error) from None
    url = urlsplit(str(settings.api_url))
    try:
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            token = _token(settings, url)
            progress = _Progress(opened, size, shown=sys.stderr.isatty())
            headers = {
                "Authorization": f"Bearer {token}",
                "Content-Type": "text/csv",
                "Content-Length": str(size),
            }
            status, answer = _post(url, "/v1/books:import", progress, headers)
            if progress.shown:
                sys.stderr.write("\n")
    except FileNotFoundError:
        raise StartError(f"There is no file {file}.") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise StartError(f"Cannot send {file} to {url.geturl()}: {reason}.") from None
    return _report(status, answer)


def _token(settings: ImportSettings, url: SplitResult) -> str:
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
    status, answer = _post(
        url, "/v1/auth/token", form.encode(), {"Content-Type": "application/x-www-form-urlencoded"}
    )
    if "access_token" not in answer:
        raise StartError(f"The login was refused: {_detail(status, answer)}")
    return cast("str", answer["access_token"])


def _post(
    url: SplitResult, path: str, body: bytes | _Progress, headers: dict[str, str]
) -> tuple[int, dict[str, Any]]:
    kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=_TIMEOUT_SECONDS)
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
