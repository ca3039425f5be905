"""`python -m api import`: what it sends and what it says."""

import json
import socket
import threading
from pathlib import Path

import pytest

from tests.fixtures.answering import answering
from tests.fixtures.commands import assert_one_sentence, run
from tests.fixtures.terminal import on_a_terminal


def test_import_says_what_became_of_each_row(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "books.csv"
    file.write_text("title,author,publication_date\nDune,Frank Herbert,1965-08-01\nDune,,1965-08-01\n")
    done = run(environment, "import", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first == "accepted 1, rejected 1"
    assert second.startswith("line 3: author:")


def test_import_of_a_file_that_is_refused_whole_is_exit_code_2(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "books.csv"
    file.write_text("name,writer\nDune,Frank Herbert\n")
    assert_one_sentence(run(environment, "import", str(file)), 2, "The file was refused:")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"DEMO_PASSWORD": "not the password"}, "The login was refused"),
        ({"DEMO_PASSWORD": ""}, "Set BOOKSTORE_TOKEN"),
        ({"BOOKSTORE_TOKEN": "x"}, "The import ended early: The token is not valid"),
        ({"BOOKSTORE_TOKEN": "ключ"}, "BOOKSTORE_TOKEN"),
        ({"BOOKSTORE_TOKEN": "a\nb"}, "BOOKSTORE_TOKEN"),
        ({"API_URL": "http://127.0.0.1:1"}, "Connection refused"),
        ({"API_URL": "nowhere"}, "API_URL"),
    ],
)
def test_import_that_cannot_begin_is_exit_code_1(
    environment: dict[str, str], tmp_path: Path, changes: dict[str, str], words: str
) -> None:
    file = tmp_path / "books.csv"
    file.write_text("title,author,publication_date\n")
    assert_one_sentence(run(environment, "import", str(file), **changes), 1, words)


def test_import_of_a_file_that_is_not_there_is_exit_code_1(environment: dict[str, str]) -> None:
    assert_one_sentence(run(environment, "import", "/nowhere.csv"), 1, "There is no file /nowhere.csv.")


def test_on_a_terminal_a_bar_shows_how_far_it_is(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "books.csv"
    file.write_text("title,author,publication_date\n" + "Dune,Frank Herbert,1965-08-01\n" * 6000)
    with on_a_terminal(environment, "api", "import", str(file)) as terminal:
        assert terminal.exit_code() == 0
    steps = [part.strip() for part in terminal.shown.split("\r") if part.startswith("[")]
    assert steps[0] == f"[{'#' * 14:<40}]  36%"
    assert steps[-1] == f"[{'#' * 40}] 100%"
    assert terminal.shown.rstrip().endswith("accepted 6000, rejected 0")


def test_a_refusal_before_the_whole_file_was_sent_is_heard(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "books.csv"
    file.write_bytes(b"x" * 50_000_000)
    answer = b'HTTP/1.1 413 Too Large\r\nContent-Length: 24\r\n\r\n{"detail": "Too large."}'
    with answering(answer, after=1) as url:
        done = run(environment, "import", str(file), "--retries", "0", API_URL=url, BOOKSTORE_TOKEN="x")
    assert_one_sentence(done, 2, "The file was refused: Too large.")


def test_what_a_terminal_would_obey_is_printed_escaped(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "books.csv"
    file.write_text("title,author,publication_date\n")
    report = {"accepted": 0, "rejected": 1, "errors": [{"line": 2, "reason": "\x1b[2J\nGröße"}]}
    for status, body, shown in (
        (200, report, "accepted 0, rejected 1\nline 2: \\u001b[2J\\nGröße\n"),
        (422, {"detail": "\x9b2J\nGröße"}, "The file was refused: \\u009b2J\\nGröße\n"),
        (503, {"detail": "\x9b2J\nGröße"}, "The import ended early: \\u009b2J\\nGröße "),
    ):
        content = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n\r\n"
        with answering(head.encode() + content, after=1) as url:
            done = run(environment, "import", str(file), "--retries", "0", API_URL=url, BOOKSTORE_TOKEN="x")
        assert (done.stdout + done.stderr).startswith(shown)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>", "ended early: status 502"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "ended early: status 200"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "Cannot send"),
        (b"", "Cannot send"),
    ],
)
def test_an_answer_that_is_none_of_the_api_is_exit_code_1(
    environment: dict[str, str], tmp_path: Path, answer: bytes, words: str
) -> None:
    file = tmp_path / "books.csv"
    file.write_text("title,author,publication_date\n")
    with answering(answer, after=1) as url:
        done = run(environment, "import", str(file), "--retries", "0", API_URL=url, BOOKSTORE_TOKEN="x")
    assert_one_sentence(done, 1, words)
    assert "--idempotency-key" in done.stderr


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x1b[2J\r\n", b"\x05\x00", b""])
def test_a_login_where_nobody_speaks_http_is_exit_code_1(
    environment: dict[str, str], tmp_path: Path, answer: bytes
) -> None:
    file = tmp_path / "books.csv"
    file.write_text("title,author,publication_date\n")
    with answering(answer, after=1) as url:
        done = run(environment, "import", str(file), API_URL=url)
        assert_one_sentence(done, 1, f"Cannot send {file} to {url}/: ")
    assert done.stderr.rstrip("\n").isprintable()


@pytest.mark.parametrize(
    ("name", "words"),
    [("books.ndjson", ()), ("BOOKS.JSONL", ()), ("books", ("--format", "ndjson"))],
)
def test_the_form_is_told_by_the_name_or_by_hand(
    environment: dict[str, str], tmp_path: Path, name: str, words: tuple[str, ...]
) -> None:
    file = tmp_path / name
    file.write_text('{"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"}\n[]\n')
    done = run(environment, "import", str(file), *words)
    assert done.stdout == "accepted 1, rejected 1\nline 2: is not a JSON object\n"


def test_a_file_of_unknown_form_is_asked_about(environment: dict[str, str], tmp_path: Path) -> None:
    done = run(environment, "import", str(tmp_path / "books.xlsx"))
    assert_one_sentence(done, 1, "Say with --format what")


def test_what_ends_early_is_sent_again_under_the_same_key(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "books.csv"
    file.write_text("title,author,publication_date\n")
    seen: list[str] = []

    def serve() -> None:
        refusals = [b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\n{}" % it for it in (408, 429, 503)]
        for answer in (b"", *refusals, whole):
            connection, _ = listener.accept()
            with connection:
                head = connection.recv(65_536).decode()
                seen.append(next(line for line in head.splitlines() if line.startswith("Idempotency-Key")))
                connection.sendall(answer)

    body = b'{"accepted": 0, "rejected": 0, "errors": []}'
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        done = run(
            environment, "import", str(file), "--idempotency-key", "k", API_URL=url, BOOKSTORE_TOKEN="x"
        )
        thread.join()
    assert (done.returncode, done.stdout) == (0, "accepted 0, rejected 0\n")
    assert seen == ["Idempotency-Key: k"] * 5
