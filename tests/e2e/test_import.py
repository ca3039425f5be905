import csv
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.system import System
from tests.waiting import eventually

BOOKS = Path(__file__).parents[1] / "data" / "books.csv"


def storable(row: list[str]) -> bool:
    """Whether the contract lets a row in, told without the code that is tested."""
    title, author, day = (field.strip() for field in row)
    try:
        date.fromisoformat(day)
    except ValueError:
        return False
    return 1 <= len(title) <= 300 and 1 <= len(author) <= 1000


@pytest.fixture(scope="module")
def rows() -> list[tuple[int, list[str]]]:
    """(line, fields) of every row; no field of this file holds a line end."""
    with BOOKS.open(newline="", encoding="utf-8") as file:
        return list(enumerate(csv.reader(file), start=1))[1:]


def test_every_row_of_the_file_is_recorded_once_or_rejected_by_its_line(
    system: System, rows: list[tuple[int, list[str]]]
) -> None:
    with system.client() as client:
        answer = client.post(
            "/v1/books:import", content=BOOKS.read_bytes(), headers={"Content-Type": "text/csv"}
        )
    assert answer.status_code == 200, answer.text
    report = answer.json()

    bad_lines = [line for line, row in rows if not storable(row)]
    good = [
        (title.strip(), author.strip(), day)
        for _, (title, author, day) in rows
        if storable([title, author, day])
    ]
    assert report["accepted"] == len(good)
    assert report["rejected"] == len(bad_lines) > 0
    assert [error["line"] for error in report["errors"]] == bad_lines

    eventually(lambda: system.readiness("outbox_relay")[1].get("backlog") == 0)
    events = eventually(lambda: _all_recorded(system, len(good)))
    assert [(e["book"]["title"], e["book"]["author"], e["book"]["publication_date"]) for e in events] == good
    assert {e["type"] for e in events} == {"bookstore.book.created.v1"}
    assert len({e["id"] for e in events}) == len(good)

    listed = system.run("grpc_reader", "list", "--all", "--json")
    assert listed.returncode == 0, listed.stderr
    assert len(listed.stdout.splitlines()) == len(good)


def _all_recorded(system: System, count: int) -> list[dict[str, Any]]:
    """The recorded events by book, once there are that many; ids ascend with the rows of the file."""
    events = system.recorded()
    return sorted(events, key=lambda event: int(event["book_id"])) if len(events) >= count else []
