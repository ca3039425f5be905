"""A client that writes down every call and what came of it, and never fails because of a fault."""

import itertools
import threading
from dataclasses import replace

import httpx

from tests.faults.evidence import Change, Outcome
from tests.faults.journal import Journal

_TIMEOUT_SECONDS = 3
_SERIAL = itertools.count(1)
_SERIAL_LOCK = threading.Lock()


def new_title() -> str:
    """One that no other call has."""
    with _SERIAL_LOCK:
        return f"title {next(_SERIAL)}"


class RestClient:
    """Changes books over REST. For one thread."""

    def __init__(self, url: str, authorization: str, journal: Journal) -> None:
        headers = {"Authorization": authorization}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_SECONDS)
        self._journal = journal

    def create(self) -> Change:
        """Add a book with a title of its own."""
        title = new_title()
        book = {"title": title, "author": "Somebody", "publication_date": "2000-01-01"}
        return self._call(Change("create", "unknown", title=title), "POST", "/v1/books", book)

    def change(self, book_id: int) -> Change:
        """Give a book a title that no other call has."""
        title = new_title()
        asked = Change("change", "unknown", book_id, title=title)
        return self._call(asked, "PATCH", f"/v1/books/{book_id}", {"title": title})

    def delete(self, book_id: int) -> Change:
        """Remove a book."""
        return self._call(Change("delete", "unknown", book_id), "DELETE", f"/v1/books/{book_id}")

    def version(self, book_id: int) -> int | None:
        """The version that a GET shows, None for a book that is not there; httpx.HTTPError without answer."""
        answer = self._http.get(f"/v1/books/{book_id}")
        if answer.status_code != 404:
            answer.raise_for_status()
            return int(answer.json()["version"])
        return None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _call(self, asked: Change, method: str, path: str, body: dict[str, str] | None = None) -> Change:
        told = asked
        try:
            answer = self._http.request(method, path, json=body)
            told = replace(asked, outcome=_outcome(answer))
            if answer.is_server_error and answer.status_code != 503:
                self._journal.server_errors.append(f"{method} {path}: {answer.status_code} {answer.text}")
            if told.outcome == "acknowledged" and asked.call != "delete":
                told = replace(told, book_id=answer.json()["id"], version=answer.json()["version"])
        except (httpx.ConnectError, httpx.ConnectTimeout):
            told = replace(asked, outcome="refused")  # nothing was sent
        except httpx.TransportError:
            pass  # and nobody knows
        self._journal.write(told)
        return told


def _outcome(answer: httpx.Response) -> Outcome:
    """Of a 500, and of a 503 that says so, nobody knows whether the change was made."""
    if answer.is_success:
        return "acknowledged"
    if answer.status_code == 503:
        return "unknown" if "outcome-unknown" in answer.json()["type"] else "refused"
    return "refused" if answer.is_client_error else "unknown"
