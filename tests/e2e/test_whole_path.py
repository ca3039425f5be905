import subprocess

import pytest

from devstack.stack import Stack
from tests.fixtures.system import System
from tests.waiting import eventually

DUNE = {"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"}


def versions(system: System, book_id: int) -> list[int]:
    return [int(event["book_version"]) for event in reversed(system.recorded(book_id))]


def test_every_change_of_a_book_is_recorded_once_and_in_order(system: System) -> None:
    with system.client() as client:
        book = client.post("/v1/books", json=DUNE).json()
        path = f"/v1/books/{book['id']}"
        client.patch(path, json={"title": "Dune Messiah"})
        client.put(path, json=DUNE)
        client.put(path, json=DUNE)  # changes nothing
        assert client.delete(path).status_code == 204
    eventually(lambda: len(system.recorded(book["id"])) == 4)
    events = list(reversed(system.recorded(book["id"])))
    assert [(int(e["book_version"]), e["type"], e["book"]["title"]) for e in events] == [
        (1, "bookstore.book.created.v1", "Dune"),
        (2, "bookstore.book.updated.v1", "Dune Messiah"),
        (3, "bookstore.book.updated.v1", "Dune"),
        (4, "bookstore.book.deleted.v1", "Dune"),
    ]
    gone = system.run("grpc_reader", "get", str(book["id"]))
    assert gone.returncode == 1
    assert f"no book {book['id']}" in gone.stderr


def test_console_line_carries_what_the_contract_names(system: System) -> None:
    with system.client() as client:
        book = client.post("/v1/books", json=DUNE).json()
    [event] = eventually(lambda: system.recorded(book["id"]))
    log = system.services["grpc_reader"].log
    assert log is not None
    line = eventually(
        lambda: next((line for line in log.read_text().splitlines() if event["id"] in line), "")
    )
    for part in (
        "event delivered",
        "bookstore.book.created.v1",
        f"book_id={book['id']}",
        "version=1",
        "latency_ms=",
    ):
        assert part in line


def test_writes_go_on_while_the_broker_is_down_and_all_are_recorded_when_it_is_back(
    system: System, stack: Stack
) -> None:
    with system.client() as client:
        book = client.post("/v1/books", json=DUNE).json()
        path = f"/v1/books/{book['id']}"
        eventually(lambda: versions(system, book["id"]) == [1])
        stack.broker.stop()
        try:
            for number in range(5):
                assert client.patch(path, json={"title": f"Dune {number}"}).status_code == 200
            eventually(lambda: system.readiness("outbox_relay")[0] == 503)
            status, body = system.readiness("outbox_relay")
            assert (status, body["checks"]["broker"]["status"], body["backlog"]) == (503, "down", 5)
            assert system.readiness("api")[0] == 200
        finally:
            stack.broker.start()
    eventually(lambda: versions(system, book["id"]) == [1, 2, 3, 4, 5, 6], within=60)


def test_cache_that_is_down_costs_only_speed(system: System, stack: Stack) -> None:
    with system.client() as client:
        book = client.post("/v1/books", json=DUNE).json()
        path = f"/v1/books/{book['id']}"
        stack.cache.stop()
        try:
            assert client.patch(path, json={"title": "Dune Messiah"}).status_code == 200
            assert client.get(path).json()["title"] == "Dune Messiah"
            eventually(lambda: versions(system, book["id"]) == [1, 2])
            status, body = system.readiness("api")
            assert (status, body["checks"]["cache"]["status"]) == (200, "down")
        finally:
            stack.cache.start()
        assert client.get(path).json()["version"] == 2


def test_database_that_is_down_is_a_503_that_says_when_to_come_back_and_heals(
    system: System, stack: Stack
) -> None:
    with system.client() as client:
        book = client.post("/v1/books", json=DUNE).json()
        path = f"/v1/books/{book['id']}"
        stack.database.stop()
        try:
            answer = client.put(path, json={**DUNE, "title": "Lost"})
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
            assert int(answer.headers["retry-after"]) > 0
            eventually(lambda: system.readiness("api")[0] == 503)
        finally:
            stack.database.start()
        eventually(lambda: client.patch(path, json={"title": "Found"}).status_code == 200)
        assert client.get(path).json()["version"] == 2
    eventually(lambda: versions(system, book["id"]) == [1, 2], within=60)


@pytest.mark.parametrize("service", ["outbox_relay", "grpc_reader", "api"])
def test_port_in_use_is_one_sentence_and_not_a_success(system: System, service: str) -> None:
    done = system.run(service, "serve", within=30)
    assert done.returncode == 1
    sentence = (done.stderr or done.stdout).strip().splitlines()[-1]
    assert "PORT" in sentence
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.parametrize("service", ["outbox_relay", "grpc_reader", "api"])
def test_missing_environment_is_one_sentence_and_not_a_success(system: System, service: str) -> None:
    bare = System({**system.environment, "DATABASE_URL": ""})
    done: subprocess.CompletedProcess[str] = bare.run(service, "serve", within=30)
    assert done.returncode == 1
    assert "DATABASE_URL" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("service", ["outbox_relay", "grpc_reader", "api"])
@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("BROKER_URL", "http://u:secret@127.0.0.1/"),
        ("BROKER_URL", "amqp://u:secret@127.0.0.1:secret/"),
        ("CACHE_URL", "127.0.0.1:6379"),
        ("CACHE_URL", "redis://:secret@127.0.0.1:secret/0"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "mysql://u:secret@127.0.0.1:secret/n"),
    ],
)
def test_wrong_address_is_one_sentence_without_its_password_and_not_a_success(
    system: System, service: str, variable: str, address: str
) -> None:
    done = System({**system.environment, variable: address}).run(service, "serve", within=30)
    assert done.returncode == 1
    [sentence] = done.stderr.splitlines()
    assert variable in sentence
    assert "secret" not in done.stdout + done.stderr


def test_status_and_parked_of_an_idle_relay(system: System) -> None:
    eventually(lambda: system.readiness("outbox_relay")[1].get("backlog") == 0)
    status = system.run("outbox_relay", "status")
    assert (status.returncode, status.stdout.split()[:2]) == (0, ["backlog", "0"])
    assert system.run("outbox_relay", "parked").stdout == ""
    assert system.run("outbox_relay", "retry").stdout == "released 0 books\n"
