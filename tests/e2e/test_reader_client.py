"""The reader's client commands, as an operator runs them, against the running system."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO

import psutil
import pytest

from devstack.servers import free_port
from grpc_reader.__main__ import main
from tests.fixtures.schema import ROOT
from tests.fixtures.system import System
from tests.waiting import eventually

DUNE = {"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"}


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@pytest.fixture
def command(
    system: System, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Done]:
    """Runs a command with the system's environment; keyword arguments replace variables, None removes one."""
    # No login of a `make up` in this checkout may help.
    monkeypatch.chdir(tmp_path)

    def run(*words: str, **variables: str | None) -> Done:
        with monkeypatch.context() as patch:
            for name, value in {**system.environment, **variables}.items():
                patch.delenv(name, raising=False) if value is None else patch.setenv(name, value)
            code = main(list(words))
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return run


Command = Callable[..., Done]


def add(system: System, title: str, author: str = "Frank Herbert") -> int:
    """The id of a new book whose event is recorded."""
    with system.client() as client:
        book = client.post("/v1/books", json={**DUNE, "title": title, "author": author}).json()
    eventually(lambda: system.recorded(book["id"]))
    return int(book["id"])


@contextmanager
def started(system: System, *words: str, out: int | IO[str]) -> Iterator[subprocess.Popen[str]]:
    """A command as a process of its own, which the block must see end."""
    with subprocess.Popen(
        [sys.executable, "-m", "grpc_reader", *words],
        cwd=ROOT,
        env={**os.environ, **system.environment},
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and what was said on standard error."""
    assert process.stderr is not None
    code = process.wait(15)
    return code, process.stderr.read()


def test_a_call_does_not_wait_for_the_libraries_of_database_and_broker() -> None:
    program = "import sys, grpc_reader.__main__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    imported = done.stdout.split()
    assert "grpc" in imported
    assert not {"sqlalchemy", "kombu", "redis"} & set(imported)


def test_get_prints_a_line_or_json(system: System, command: Command) -> None:
    book = add(system, "Дюна 🎈")
    done = command("get", str(book))
    assert (done.code, done.out) == (0, f"{book}  v1  1965-08-01  Дюна 🎈 — Frank Herbert\n")
    printed = json.loads(command("get", str(book), "--json").out)
    assert (printed["id"], printed["title"], printed["version"]) == (str(book), "Дюна 🎈", 1)


def test_get_of_a_book_that_is_not_there_is_one_sentence(command: Command) -> None:
    done = command("get", str(2**62))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("NOT_FOUND: ")
    assert len(done.err.splitlines()) == 1


def test_list_prints_a_page_or_all_and_filters_by_beginnings(system: System, command: Command) -> None:
    books = [add(system, f"Listed {number}", author="Ursula K. Le Guin") for number in range(3)]
    filtered = ("list", "--author", "Ursula", "--title", "Listed")
    assert len(command(*filtered, "--page-size", "2").lines) == 2
    lines = command(*filtered, "--page-size", "2", "--all").lines
    assert [int(line.split()[0]) for line in lines] == books


def test_events_are_printed_newest_first_and_limited(system: System, command: Command) -> None:
    book = add(system, "Dune")
    with system.client() as client:
        client.patch(f"/v1/books/{book}", json={"title": "Dune Messiah"})
        client.delete(f"/v1/books/{book}")
    eventually(lambda: len(system.recorded(book)) == 3)
    lines = command("events", "--book", str(book)).lines
    kinds = [(line.split()[3], line.split()[6]) for line in lines]
    assert kinds == [("deleted", "v3"), ("updated", "v2"), ("created", "v1")]
    assert "Dune Messiah — Frank Herbert" in lines[0]
    assert command("events", "--book", str(book), "--limit", "2").lines == lines[:2]


ODD = "Du\nne\x1b[2J\x9b0m \u202edne"
SHOWN = r"Du\nne\u001b[2J\u009b0m \u202edne"


@pytest.mark.parametrize("words", [("get", "{book}"), ("list", "--author", "{author}"), ("events",)])
def test_what_a_terminal_would_obey_is_printed_escaped(
    system: System, command: Command, words: tuple[str, ...]
) -> None:
    author = f"{ODD} Герберт 👩\u200d🚀 חולית {words[0]}"
    book = add(system, ODD, author=author)
    # A beginning of the author's name will do.
    asked = [word.format(book=book, author=author) for word in words]
    line = command(*asked).lines[0]
    assert f"{SHOWN} — {author.replace(ODD, SHOWN)}" in line
    [as_json] = [line for line in command(*asked, "--json").lines if author[-9:] in line][:1]
    printed = json.loads(as_json)
    assert printed.get("book", printed)["title"] == ODD
    assert not set(as_json) & set(ODD) & set("\x1b\x9b\u202e")


def test_watch_prints_escaped_what_a_terminal_would_obey(system: System, tmp_path: Path) -> None:
    book = add(system, ODD)
    [event] = system.recorded(book)
    shown = tmp_path / "shown"
    words = ("watch", "--after", str(int(event["position"]) - 1), "--book", str(book))
    with shown.open("w") as out, started(system, *words, out=out) as process:
        # The text and the end of its line are written one after the other.
        line = eventually(lambda: text if (text := shown.read_text()).endswith("\n") else "")
        process.send_signal(signal.SIGINT)
        assert end_of(process) == (0, "")
    assert f"  {SHOWN} — " in line
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        *(("get", word) for word in ("9223372036854775808", "0", "-1", "1_0", " 1", "1.0", "\u0661")),
        ("get", "9" * 5000),
        ("events", "--book", "9223372036854775808"),
        ("events", "--book", "-1"),
        ("events", "--limit", "-1"),
        ("events", "--limit", "0"),
        ("watch", "--book", "9223372036854775808"),
        ("watch", "--after", "9223372036854775808"),
        ("watch", "--after", "-1"),
        ("list", "--page-size", "2147483648"),
        ("list", "--page-size", "-1"),
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_number_out_of_its_bounds_is_a_wrong_command_line(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"error: argument .*: must be a whole number from \d+ to \d+$", err.rstrip())


def test_text_that_is_no_utf_8_is_a_wrong_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["list", "--author", os.fsdecode(b"\xff")])
    assert ended.value.code == 2
    assert capsys.readouterr().err.rstrip().endswith("error: argument --author: must be text in UTF-8")


def test_largest_numbers_are_taken(command: Command) -> None:
    largest = str(2**63 - 1)
    assert command("get", largest).err.startswith("NOT_FOUND: ")
    assert command("events", "--book", largest, "--limit", "1").code == 0
    assert command("list", "--page-size", str(2**31 - 1)).code == 0


def test_watch_shows_what_comes_and_ends_well_when_it_is_interrupted(system: System, tmp_path: Path) -> None:
    book = add(system, "Watched")
    shown = tmp_path / "shown"
    numbers = count(1)

    def something_shows() -> str:
        # Nothing tells that it listens already.
        client.patch(f"/v1/books/{book}", json={"title": f"Changed {next(numbers)}"})
        return shown.read_text()

    with shown.open("w") as out, started(system, "watch", out=out) as process, system.client() as client:
        assert f"updated  book {book} v" in eventually(something_shows).splitlines()[0]
        process.send_signal(signal.SIGINT)
        assert end_of(process) == (0, "")
    assert "Watched" not in shown.read_text(), "it began with old events"


def test_watch_from_a_position_shows_what_came_after_it(system: System, tmp_path: Path) -> None:
    first, second = add(system, "First"), add(system, "Second")
    [position] = [event["position"] for event in system.recorded(first)]
    shown = tmp_path / "shown"
    words = ("watch", "--after", position, "--book", str(second), "--json")
    with shown.open("w") as out, started(system, *words, out=out) as process:
        line = eventually(lambda: text if (text := shown.read_text()).endswith("\n") else "")
        process.send_signal(signal.SIGINT)
        assert end_of(process) == (0, "")
    assert json.loads(line)["book"]["title"] == "Second"


def test_watch_whose_output_nobody_reads_any_more_ends_without_a_word(system: System) -> None:
    add(system, "Read")
    with started(system, "watch", "--after", "0", out=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        add(system, "Not read")
        assert end_of(process) == (1, "")


def test_watch_ends_with_a_sentence_when_the_reader_ends(system: System, tmp_path: Path) -> None:
    add(system, "Last")
    shown = tmp_path / "shown"
    with shown.open("w") as out, started(system, "watch", "--after", "0", out=out) as process:
        eventually(shown.read_text)
        system.services["grpc_reader"].stop()
        try:
            code, said = end_of(process)
        finally:
            system.start("grpc_reader")
    assert code == 1
    assert said.startswith("UNAVAILABLE: ")
    assert len(said.splitlines()) == 1


def test_command_that_is_interrupted_while_the_reader_is_frozen_says_so_by_its_exit_code(
    system: System, command: Command
) -> None:
    reader = system.services["grpc_reader"]
    port = int(system.environment["GRPC_PORT"])

    def asking() -> bool:
        return any(
            each.raddr and each.raddr.port == port for each in psutil.Process(process.pid).net_connections()
        )

    reader.signal(signal.SIGSTOP)
    try:
        with started(system, "list", out=subprocess.DEVNULL) as process:
            eventually(asking)
            process.send_signal(signal.SIGINT)
            assert end_of(process) == (130, "")
    finally:
        reader.signal(signal.SIGCONT)


UNREACHABLE = "check GRPC_ADDRESS or GRPC_PORT, and that the reader runs"


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"GRPC_PORT": "nobody"}, rf"^UNAVAILABLE: .*; {UNREACHABLE}$"),
        ({"GRPC_ADDRESS": "nobody"}, rf"^UNAVAILABLE: .*; {UNREACHABLE}$"),
        ({"DEMO_PASSWORD": "wrong"}, r"was refused \(400\): check name and password\.$"),
        ({"API_URL": "nobody"}, r"failed \(.*refused.*\): check API_URL and that the API runs\.$"),
        ({"API_URL": "ftp://somewhere"}, r"API_URL: .*\. See \.env\.example\.$"),
        ({"GRPC_PORT": "0"}, r"^The environment .*GRPC_PORT: .*\. See \.env\.example\.$"),
        ({"BOOKSTORE_TOKEN": "not a token"}, r"^UNAUTHENTICATED: "),
        ({"BOOKSTORE_TOKEN": "tökén"}, r"BOOKSTORE_TOKEN: .*ASCII.*\. See \.env\.example\.$"),
        ({"BOOKSTORE_TOKEN": "a\nb"}, r"BOOKSTORE_TOKEN: .*ASCII.*\. See \.env\.example\.$"),
        ({"DEMO_PASSWORD": None}, r"^Set DEMO_USERNAME and DEMO_PASSWORD .*, or BOOKSTORE_TOKEN\.$"),
        ({"DEMO_USERNAME": None}, r"^Set DEMO_USERNAME and DEMO_PASSWORD .*, or BOOKSTORE_TOKEN\.$"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("words", [("list",), ("watch",)], ids=["list", "watch"])
def test_what_is_wrong_is_one_sentence_and_exit_code_1(
    command: Command, words: tuple[str, ...], variables: dict[str, str | None], sentence: str
) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    places = {"GRPC_PORT": nobody.partition(":")[2], "GRPC_ADDRESS": nobody, "API_URL": f"http://{nobody}"}
    replaced = {name: places[name] if value == "nobody" else value for name, value in variables.items()}
    done = command(*words, **replaced)
    assert (done.code, done.out) == (1, "")
    [said] = done.err.splitlines()
    assert re.search(sentence, said), said


def test_token_is_used_instead_of_a_login(system: System, command: Command) -> None:
    with system.client() as client:
        token = client.headers["Authorization"].split()[1]
    book = add(system, "Dune")
    nobody = f"http://127.0.0.1:{free_port()}"
    assert command("get", str(book), BOOKSTORE_TOKEN=token, API_URL=nobody).code == 0


def test_login_that_make_up_has_written_down_is_used(
    system: System, command: Command, tmp_path: Path
) -> None:
    login = {name: system.environment[name] for name in ("DEMO_USERNAME", "DEMO_PASSWORD")}
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "demo.env").write_text(
        "".join(f"{name}='{value}'\n" for name, value in login.items())
    )
    assert command("list", DEMO_USERNAME=None, DEMO_PASSWORD=None).code == 0
