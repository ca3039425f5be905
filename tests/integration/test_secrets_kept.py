"""What is entrusted to a service stays out of its log, answers, figures and arguments."""

import secrets
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import ProgrammingError

from api.auth.passwords import Passwords
from api.auth.users import add_user
from common.database import Database, thread_engine, transaction
from common.tokens import SCOPES
from devstack.stack import Stack
from protos.bookstore.v1 import books_pb2, books_pb2_grpc
from tests.fixtures.schema import database_settings
from tests.fixtures.system_services import Service, Starter
from tests.waiting import eventually

NAME = "planted"
FORM = "application/x-www-form-urlencoded"


def arguments() -> str:
    """Those of all processes that there are; one may end while they are read."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(file.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


def spoilt(secret: str) -> list[dict[str, str]]:
    """Forms that are refused, each with the secret where a password or a token may stand."""
    return [
        {"grant_type": "password", "username": NAME, "password": secret + "x"},
        {"grant_type": "password", "username": secret, "password": secret},
        {"grant_type": "password", "username": NAME, "password": secret, "scope": "nonsense"},
        {"grant_type": secret, "username": NAME, "password": secret},
        {"username": NAME, "password": secret, "refresh_token": secret},
        {"grant_type": "refresh_token", "refresh_token": secret + "x"},
        {"grant_type": "refresh_token", "refresh_token": secret, "scope": "nonsense"},
        {"token": ""} | {f"field{number}": secret for number in range(40)},
    ]


def refusals(client: httpx.Client, secret: str, access: str) -> Iterator[httpx.Response]:
    """Answers to requests that are wrong in different ways and carry the secret; `access` is a good token."""
    for path in ("/v1/auth/token", "/v1/auth/revoke"):
        for form in spoilt(secret):
            yield client.post(path, data=form)
        yield client.post(path, json={"password": secret})
        for body in (f"grant_type=password&password={secret}&password={secret}", f"password={secret}&x=%ff"):
            yield client.post(path, content=body.encode(), headers={"Content-Type": FORM})
    for value in (f"Bearer {secret}x", f"Bearer {secret} {secret}", f"Basic {secret}", secret):
        yield client.get("/v1/books", headers={"Authorization": value})
    yield client.get("/v1/books", params={"access_token": secret})
    for headers in ({}, {"Authorization": f"Bearer {access}"}):
        yield client.get("/v1/books", params={"cursor": secret}, headers=headers)
        yield client.get("/v1/books", params={"author": secret, "limit": secret}, headers=headers)
        yield client.get(f"/v1/books/{secret}", headers=headers)
    yield client.get(f"/{secret}")
    yield client.request(secret[:20].upper(), "/v1/books")
    yield client.post("/v1/books", content=f'{{"title": "{secret}'.encode(), headers={"Cookie": secret})


def garbage(service: Service, secret: str) -> str:
    """The answer to what is no HTTP."""
    address = urlsplit(service.url)
    assert address.port
    with socket.create_connection(("127.0.0.1", address.port), timeout=10) as connection:
        connection.sendall(f"GET /v1/books HTTP/9.9\r\nAuthorization Bearer {secret}\r\n\r\n".encode())
        return connection.recv(65_536).decode()


@contextmanager
def without_a_table(url: str, name: str) -> Iterator[None]:
    """What needs it is answered with 500, and logged with a traceback."""
    engine = thread_engine(database_settings(url))
    for_now, back = f"RENAME TABLE {name} TO lost_table", f"RENAME TABLE lost_table TO {name}"
    with engine.begin() as connection:
        connection.execute(text(for_now))
    try:
        yield
    finally:
        with engine.begin() as connection:
            connection.execute(text(back))
        engine.dispose()


def faults(
    service: Service, database_url: str, form: dict[str, str], login: dict[str, str]
) -> list[httpx.Response]:
    """Answers to good requests that fail on our side."""
    refresh = login["refresh_token"]
    # Each on a connection of its own: uvicorn closes it after such an answer.
    token, revoke = f"{service.url}/v1/auth/token", f"{service.url}/v1/auth/revoke"
    with without_a_table(database_url, "refresh_token"):
        found = [
            httpx.post(token, data=form),
            httpx.post(token, data={"grant_type": "refresh_token", "refresh_token": refresh}),
            httpx.post(revoke, data={"token": refresh}),
        ]
    with without_a_table(database_url, "book"):
        bearer = {"Authorization": f"Bearer {login['access_token']}"}
        found.append(httpx.get(f"{service.url}/v1/books", headers=bearer))
    assert [answer.status_code for answer in found] == [500] * 4
    return found


def test_no_secret_is_told_whatever_goes_wrong(start: Starter, database_url: str) -> None:
    password = f"planted-{secrets.token_hex(16)}"
    engine = thread_engine(database_settings(database_url))
    add_user(engine, NAME, Passwords().hash(password), list(SCOPES))
    engine.dispose()
    service = start("api", LOG_LEVEL="DEBUG", RATE_LIMIT_LOGIN="0")
    eventually(lambda: service.ready, because="the API serves")
    form = {"grant_type": "password", "username": NAME, "password": password}
    said = []
    with httpx.Client(base_url=service.url, timeout=30) as client:
        login = client.post("/v1/auth/token", data=form).json()
        refresh, access = login["refresh_token"], login["access_token"]
        database_password = make_url(database_url).password
        assert database_password
        planted = [password, refresh, access, access.split(".")[2], database_password]
        for secret in (password, access, refresh):
            said += list(refusals(client, secret, access))
        said += faults(service, database_url, form, login)
        assert not [answer.url for answer in said if answer.is_success and "revoke" not in answer.url.path]
        said += [client.get(path) for path in ("/metrics", "/readyz", "/livez")]
        assert "api_requests_total" in said[-3].text, "figures were told"
    answers = [f"{answer.headers!r} {answer.text}" for answer in said]
    answers += [garbage(service, secret) for secret in planted]
    told_by_all = arguments()
    assert str(sys.executable) in told_by_all
    service.ends(signal.SIGTERM)
    assert "traceback=" in service.log, "something was logged"
    told = {"answers": "\n".join(answers), "log": service.log, "arguments": told_by_all}
    assert not [
        (where, number)
        for where, words in told.items()
        for number, secret in enumerate(planted)
        if secret in words
    ]


@pytest.mark.anyio
async def test_an_error_of_the_driver_tells_no_value_of_its_statement(database_url: str) -> None:
    secret = secrets.token_hex(16)
    settings = database_settings(database_url)
    statement = text("UPDATE no_such_table SET password_hash = :it")
    engine, database = thread_engine(settings), Database(settings)
    with pytest.raises(ProgrammingError) as of_thread, transaction(engine) as connection:
        connection.execute(statement, {"it": secret})
    with pytest.raises(ProgrammingError) as of_loop:
        async with database.begin() as transacting:
            await transacting.execute(statement, {"it": secret})
    engine.dispose()
    await database.close()
    for error in (of_thread.value, of_loop.value):
        told = "".join(traceback.format_exception(error))
        assert "no_such_table" in told
        assert secret not in told


@pytest.mark.parametrize("name", ["DATABASE_URL", "BROKER_URL", "CACHE_URL"])
@pytest.mark.parametrize(
    "shape", ["{scheme}://u:{secret}@127.0.0.1:x/d", "{secret}", "{scheme}://{secret}@/"]
)
def test_an_address_that_is_wrong_is_refused_without_its_password(
    start: Starter, name: str, shape: str
) -> None:
    secret = secrets.token_hex(16)
    scheme = {"DATABASE_URL": "mysql", "BROKER_URL": "amqp", "CACHE_URL": "redis"}[name]
    service = start("api", **{name: shape.format(scheme=scheme, secret=secret)}, LOG_LEVEL="DEBUG")
    eventually(lambda: not service.process.running, because="it gives up")
    assert service.process.exit_code() == 1
    assert service.log
    assert secret not in service.log


@pytest.mark.parametrize("kind", ["grpc_reader", "outbox_relay"])
def test_no_secret_is_told_by_the_services_behind(
    start: Starter, stack: Stack, database_url: str, kind: str
) -> None:
    engine = thread_engine(database_settings(database_url))
    password = f"planted-{secrets.token_hex(16)}"
    add_user(engine, NAME, Passwords().hash(password), list(SCOPES))
    engine.dispose()
    api = start("api")
    eventually(lambda: api.ready, within=20, because="the API serves")
    service = start(kind, LOG_LEVEL="DEBUG", JWKS_URL=f"{api.url}/.well-known/jwks.json")
    eventually(lambda: service.ready, within=20, because=f"{kind} serves")
    form = {"grant_type": "password", "username": NAME, "password": password}
    access = httpx.post(f"{api.url}/v1/auth/token", data=form).raise_for_status().json()["access_token"]
    urls = [make_url(database_url).password, urlsplit(stack.broker_url).password]
    planted = [password, access, access.split(".")[2], *(each for each in urls if each)]
    assert len(planted) >= 4
    said = calls_with(access, service) if kind == "grpc_reader" else []
    table = "book" if kind == "grpc_reader" else "outbox"
    with without_a_table(database_url, table):
        said += calls_with(access, service) if kind == "grpc_reader" else []
        eventually(lambda: "lost_table" in service.log or table in service.log, because="it is missed")
    with httpx.Client(base_url=service.url, timeout=30) as client:
        answers = [client.get(path) for path in ("/metrics", "/readyz", "/livez", f"/{access}")]
        answers += [client.get("/metrics", headers={"Authorization": f"Bearer {access}"})]
    said += [f"{answer.headers!r} {answer.text}" for answer in answers]
    said += [garbage(service, secret) for secret in planted]
    told_by_all = arguments()
    service.ends(signal.SIGTERM)
    told = {"answers": "\n".join(said), "log": service.log, "arguments": told_by_all}
    assert not [
        (where, number)
        for where, words in told.items()
        for number, secret in enumerate(planted)
        if secret in words
    ]


def calls_with(access: str, reader: Service) -> list[str]:
    """All that comes back over gRPC to good and bad tokens."""
    said = []
    with grpc.insecure_channel(f"127.0.0.1:{reader.process.environment['GRPC_PORT']}") as channel:
        books = books_pb2_grpc.BookServiceStub(channel)  # type: ignore[no-untyped-call]
        for value in (f"Bearer {access}", f"Bearer {access}x", f"Basic {access}", access):
            for request in (books_pb2.ListBooksRequest(), books_pb2.ListBooksRequest(page_token=access)):
                call = books.ListBooks.future(request, metadata=[("authorization", value)], timeout=10)
                said.append(f"{call.exception()} {call.initial_metadata()} {call.trailing_metadata()}")
    assert len({each.partition("details")[0] for each in said}) > 1, "some were refused"
    return said
