"""buf has nothing to say of the .proto files, and would have. `make proto-check` fetches it."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "tests/contract/protos.json"
Buf = Callable[..., tuple[int, str]]


@pytest.fixture
def buf(tmp_path: Path) -> Buf:
    """Runs buf on a copy of the files, with a text of books.proto replaced; its exit code and words."""
    program = shutil.which("buf", path=str(ROOT / ".local/buf/node_modules/.bin")) or shutil.which("buf")
    if program is None:
        pytest.skip("buf is not here: `make proto-check` fetches it through npm")
    copy = tmp_path / "protos"
    shutil.copytree(ROOT / "protos", copy, ignore=shutil.ignore_patterns("*.py", "*.pyi", "__pycache__"))

    def run(command: str, *options: str, old: str = "", new: str = "") -> tuple[int, str]:
        books = copy / "bookstore/v1/books.proto"
        text = books.read_text("utf-8")
        assert old in text
        books.write_text(text.replace(old, new, 1), "utf-8")
        words = [program, command, "--config", "protos/buf.yaml", *options]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


def test_the_linter_finds_nothing(buf: Buf) -> None:
    assert buf("lint") == (0, "")


def test_the_files_are_formatted(buf: Buf) -> None:
    assert buf("format", "--diff", "--exit-code") == (0, "")


def test_nothing_breaks_those_who_have_built_a_client(buf: Buf) -> None:
    assert buf("breaking", "--against", str(IMAGE)) == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("// When the book was last changed; UTC, to the microsecond.", "", "non-empty comment"),
        ("string next_page_token = 2;", "string nextPageToken = 2;", "lower_snake_case"),
        ("rpc GetBook(GetBookRequest)", "rpc GetBook(ListBooksRequest)", "used as the request"),
    ],
)
def test_the_linter_finds_what_is_planted(buf: Buf, old: str, new: str, words: str) -> None:
    code, output = buf("lint", old=old, new=new)
    assert (code, words in output) == (100, True), output


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("int32 version = 5;", "int32 version = 8;", "deleted"),
        ("int32 version = 5;", "int64 version = 5;", "changed type"),
        ("string page_token = 2;", "string token = 2;", "changed name"),
        ("repeated Book books = 1;", "Book books = 1;", "changed cardinality"),
        ("rpc ListBooks(", "rpc FindBooks(", "deleted"),
        ("returns (ListBooksResponse)", "returns (stream ListBooksResponse)", "streaming"),
    ],
)
def test_a_change_that_breaks_clients_is_found(buf: Buf, old: str, new: str, words: str) -> None:
    code, output = buf("breaking", "--against", str(IMAGE), old=old, new=new)
    assert (code, words in output) == (100, True), output


def test_what_is_only_added_breaks_nobody(buf: Buf) -> None:
    old = "int32 version = 5;"
    added = f"{old}\n  // Pages.\n  int32 pages = 8;"
    assert buf("breaking", "--against", str(IMAGE), old=old, new=added) == (0, "")
