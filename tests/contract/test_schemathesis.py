"""The API, called as its description says and as it does not; `make fuzz` goes on for longer."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import HTTPException

from api.books import commands, queries
from common.books import Book, NewBook
from tests.fixtures.api import PASSWORD, Api
from tests.fixtures.schema import ROOT
from tests.fixtures.system import System

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


def fuzz(
    url: str, login: tuple[str, str], folder: Path, *options: str, within: float | None = 110
) -> subprocess.CompletedProcess[str]:
    username, password = login
    command = [
        *(str(Path(sys.executable).with_name("st")), "--no-color", "--config-file", str(CONFIGURATION)),
        *("run", f"{url}/openapi.json", "--checks", "all", "--generation-database", "none", *options),
    ]
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "tests.contract.schemathesis_hooks",
        "PYTHONPATH": str(ROOT),
        "DEMO_USERNAME": username,
        "DEMO_PASSWORD": password,
    }
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=within
    )


def assert_nothing_found(done: subprocess.CompletedProcess[str], system: System) -> None:
    assert done.returncode == 0, done.stdout[-20_000:]
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in done.stdout, done.stdout[-20_000:]
    assert system.is_ready("api")


def login_of(system: System) -> tuple[str, str]:
    return system.environment["DEMO_USERNAME"], system.environment["DEMO_PASSWORD"]


def test_no_call_that_the_description_allows_or_forbids_is_answered_otherwise(
    system: System, tmp_path: Path
) -> None:
    done = fuzz(system.api_url, login_of(system), tmp_path, "--seed", "1", "--max-examples", "25")
    assert_nothing_found(done, system)


@pytest.mark.long
def test_nor_is_any_in_a_longer_time(system: System, tmp_path: Path) -> None:
    seconds = int(float(os.environ.get("FUZZ_MINUTES", "1")) * 60)
    options = ["--seed", os.environ.get("FUZZ_SEED", "1"), "--max-time", str(seconds)]
    done = fuzz(system.api_url, login_of(system), tmp_path, *options, within=None)
    print(done.stdout[-1000:])  # noqa: T201  what the command has to say
    assert_nothing_found(done, system)


def fail_for_some_titles(monkeypatch: pytest.MonkeyPatch) -> None:
    add = commands.add_book

    async def add_book(database: Any, new: NewBook, *rest: Any) -> Book:  # noqa: ANN401
        if max(new.title) > "\uffff":
            raise RuntimeError(new.title)
        return await add(database, new, *rest)

    monkeypatch.setattr(commands, "add_book", add_book)


def answer_with_a_status_that_is_not_described(monkeypatch: pytest.MonkeyPatch) -> None:
    async def get_book(*_: object) -> Book:
        raise HTTPException(410)

    monkeypatch.setattr(queries, "get_book", get_book)


def leave_the_version_out(monkeypatch: pytest.MonkeyPatch) -> None:
    dump = Book.model_dump_json
    monkeypatch.setattr(Book, "model_dump_json", lambda book: dump(book, exclude={"version"}))


@pytest.mark.parametrize(
    ("plant", "operation", "finding"),
    [
        (fail_for_some_titles, "addBook", "Server error"),
        (answer_with_a_status_that_is_not_described, "getBook", "Undocumented status code"),
        (leave_the_version_out, "addBook", "Response violates schema"),
    ],
)
def test_a_planted_fault_is_found(  # noqa: PLR0913, PLR0917
    api: Api,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch], None],
    operation: str,
    finding: str,
) -> None:
    plant(monkeypatch)
    options = ["--include-operation-id", operation, "--seed", "1", "--no-shrink", "--max-failures", "1"]
    done = fuzz(api.url, ("writer", PASSWORD), tmp_path, *options)
    assert done.returncode == 1
    assert finding in done.stdout
