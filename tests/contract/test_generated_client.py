"""A client that a generator makes of the description alone speaks with the API."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.api import PASSWORD, Api
from tests.fixtures.schema import ROOT

PACKAGE = "bookstore_client"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Gives a module of the client by its name; made of the committed description."""
    folder: Path = tmp_path_factory.mktemp("client")
    words = ["generate", "--path", str(ROOT / "tests/contract/openapi.json"), "--meta", "none"]
    words += ["--config", str(ROOT / "api/client.yaml"), "--output-path", str(folder / PACKAGE)]
    done = subprocess.run(
        [sys.executable, "-m", "openapi_python_client", *words, "--fail-on-warning"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield lambda name="": importlib.import_module(f"{PACKAGE}{name}")
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]


def test_a_generated_client_logs_in_and_does_all_that_there_is_to_do_with_a_book(
    api: Api,
    client: Any,  # noqa: ANN401  generated
) -> None:
    def call(name: str) -> Any:  # noqa: ANN401
        return client(f".api.{name}").sync

    models = client(".models")
    form = models.LogInBody(
        grant_type=models.LogInBodyGrantType.PASSWORD, username="writer", password=PASSWORD
    )
    with client().Client(base_url=api.url) as stranger:
        token = call("auth.log_in")(client=stranger, body=form)
    with client().AuthenticatedClient(base_url=api.url, token=token.access_token) as ours:
        added = [
            call("books.add_book")(
                client=ours,
                body=models.NewBook(title=title, author="Zora Example", publication_date=date(1965, 8, 1)),
            )
            for title in ("One", "Two", "Three")
        ]
        assert [book.title for book in added] == ["One", "Two", "Three"]
        assert call("books.get_book")(added[0].id, client=ours) == added[0]

        listed, cursor = [], None
        while True:
            page = call("books.list_books")(client=ours, limit=2, author="Zora Example", cursor=cursor)
            listed += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
        assert listed == added

        changed = call("books.change_book")(
            added[0].id, client=ours, body=models.BookPatch(title="First"), if_match='"1"'
        )
        assert (changed.title, changed.author, changed.version) == ("First", "Zora Example", 2)
        deleted = client(".api.books.delete_book").sync_detailed(added[0].id, client=ours)
        assert deleted.status_code == 204
        problem = call("books.get_book")(added[0].id, client=ours)
        assert isinstance(problem, models.Problem)
        assert (problem.type_, problem.status) == ("/problems/book-not-found", 404)
