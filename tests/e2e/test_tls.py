"""The whole system with TLS on every connection, and certificates asked for on both sides."""

import contextlib
import shutil
import socket
import ssl
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.tls import ClientTls
from devstack.servers import TlsFiles
from devstack.stack import Stack
from grpc_reader.client import Client
from grpc_reader.tls import channel_credentials
from tests.fixtures.certificates import Authority, client_variables, server_variables
from tests.fixtures.system import System, running_system
from tests.waiting import eventually

BOOK = {"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"}


@pytest.fixture(scope="module")
def renewable(of_server: TlsFiles, tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """The files that the API and gRPC serve with, which tests may replace."""
    folder = tmp_path_factory.mktemp("renewable")
    found = TlsFiles(of_server.ca, folder / "certificate.pem", folder / "key.pem")
    replaced(found, of_server)
    return found


def replaced(files: TlsFiles, by: TlsFiles) -> None:
    for old, new in ((files.certificate, by.certificate), (files.key, by.key)):
        fresh = old.with_suffix(".new")
        shutil.copy(new, fresh)
        fresh.rename(old)


@pytest.fixture(scope="module")
def system(
    tls_stack: Stack, renewable: TlsFiles, of_client: TlsFiles, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    variables: dict[str, Any] = {}
    for prefix in ("DATABASE_TLS", "BROKER_TLS", "CACHE_TLS", "API_CLIENT_TLS", "GRPC_CLIENT_TLS"):
        variables |= client_variables(prefix, of_client)
    for prefix in ("API_TLS", "GRPC_TLS"):
        variables |= server_variables(prefix, renewable)
    url = tls_stack.database_url
    migration = System({**variables, "DATABASE_URL": url}).run(
        "alembic", "-c", "setup.cfg", "upgrade", "head"
    )
    assert migration.returncode == 0, migration.stderr
    with running_system(tls_stack, url, tmp_path_factory.mktemp("system"), **variables) as found:
        yield found


def client_tls(files: TlsFiles) -> ClientTls:
    return ClientTls("TEST", files.ca, files.certificate, files.key)


def test_a_book_written_over_https_is_delivered_over_amqps_and_watched_over_grpc_with_tls(
    system: System, of_client: TlsFiles
) -> None:
    with system.client() as api:
        answer = api.post("/v1/books", json=BOOK)
        assert answer.status_code == 201
        token = api.headers["Authorization"].removeprefix("Bearer ")
        book_id = answer.json()["id"]
        with Client(f"127.0.0.1:{system.environment['GRPC_PORT']}", token, client_tls(of_client)) as reader:
            event = next(iter(reader.watch(0, book_id)))
            assert (event.book.title, event.book_version) == ("Dune", 1)
            assert reader.get(book_id).author == "Frank Herbert"
    log = system.services["api"].log
    assert log is not None
    assert "counted by this process alone" not in log.read_text(), "logins are counted in the cache"
    assert [event["book_id"] for event in system.recorded(book_id)] == [str(book_id)]
    for name in ("api", "outbox_relay", "grpc_reader"):
        eventually(partial(all_up, system, name), because=f"{name} reaches all servers")


def all_up(system: System, name: str) -> bool:
    status, answer = system.readiness(name)
    return status == 200 and {check["status"] for check in answer["checks"].values()} == {"up"}


def test_a_file_is_imported_over_https(system: System, tmp_path: Path) -> None:
    file = tmp_path / "books.csv"
    file.write_text("title,author,publication_date\nEmma,Jane Austen,1815-12-23\n")
    done = system.run("api", "import", str(file))
    assert (done.returncode, done.stdout) == (0, "accepted 1, rejected 0\n"), done.stderr


def test_commands_that_do_not_trust_the_server_say_so(system: System, stranger: Authority) -> None:
    for command in (("api", "import", "--format", "csv", __file__), ("grpc_reader", "list")):
        changed = System({**system.environment, "API_CLIENT_TLS_CA": str(stranger.ca)})
        done = changed.run(*command)
        assert done.returncode == 1
        assert "CERTIFICATE_VERIFY_FAILED" in done.stderr
        assert "Traceback" not in done.stderr


# -- What both servers refuse --------------------------------------------------------------------------

Knock = Callable[[System, ssl.SSLContext, str], None]


def knock_http(system: System, context: ssl.SSLContext, host: str = "127.0.0.1") -> None:
    port = system.environment["API_PORT"]
    assert httpx.get(f"https://{host}:{port}/livez", verify=context).status_code == 200


def knock_grpc(system: System, context: ssl.SSLContext, host: str = "127.0.0.1") -> None:
    """Speaks HTTP/2 as far as the server's first frame, its settings; it needs no more."""
    context.set_alpn_protocols(["h2"])
    address = (host, int(system.environment["GRPC_PORT"]))
    with (
        socket.create_connection(address, 5) as plain,
        context.wrap_socket(plain, server_hostname=host) as end,
    ):
        end.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        if not end.recv(9):
            raise ConnectionResetError


@pytest.fixture(params=[knock_http, knock_grpc])
def knock(request: pytest.FixtureRequest) -> Knock:
    found: Knock = request.param
    return found


@contextlib.contextmanager
def refused(system: System, *reasons: str) -> Iterator[None]:
    """The connection fails for one of the reasons, and both servers go on serving others."""
    with pytest.raises((OSError, httpx.TransportError)) as caught:
        yield
    assert any(reason in f"{caught.value!r}" for reason in reasons), repr(caught.value)
    knock_http(system, system.tls)
    knock_grpc(system, system.tls)


def test_who_has_a_certificate_and_the_right_ca_is_let_in(
    system: System, of_client: TlsFiles, knock: Knock
) -> None:
    knock(system, client_tls(of_client).context(), "127.0.0.1")


def test_a_client_refuses_a_server_of_a_foreign_ca(
    system: System, of_client: TlsFiles, stranger: Authority, knock: Knock
) -> None:
    with refused(system, "CERTIFICATE_VERIFY_FAILED"):
        knock(system, client_tls(replace(of_client, ca=stranger.ca)).context(), "127.0.0.1")


def test_a_client_refuses_a_server_with_another_name(
    system: System, of_client: TlsFiles, knock: Knock
) -> None:
    with refused(system, "Hostname mismatch"):
        knock(system, client_tls(of_client).context(), "localhost")


def test_who_has_no_certificate_is_refused(system: System, authority: Authority, knock: Knock) -> None:
    with refused(system, "CERTIFICATE_REQUIRED", "alert", "Reset", "ReadError", "disconnected"):
        knock(system, ClientTls("TEST", authority.ca).context(), "127.0.0.1")


def test_who_has_a_certificate_of_a_stranger_is_refused(
    system: System, authority: Authority, of_stranger: TlsFiles, knock: Knock
) -> None:
    with refused(system, "UNKNOWN_CA", "alert", "Reset", "ReadError", "disconnected"):
        knock(system, client_tls(replace(of_stranger, ca=authority.ca)).context(), "127.0.0.1")


def test_tls_1_1_is_refused_by_the_servers(system: System, of_client: TlsFiles, knock: Knock) -> None:
    context = client_tls(of_client).context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(
        action="ignore", category=DeprecationWarning
    ):  # of versions that nobody should use
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    # It is the server that ends it: this client would go on.
    # Pythons differ in what they say of an end that comes instead of an answer.
    with refused(system, "ALERT_PROTOCOL_VERSION", "UNEXPECTED_EOF", "closed (EOF)", "reset"):
        knock(system, context, "127.0.0.1")


def test_plaintext_is_refused_and_leaves_the_servers_ready(system: System) -> None:
    port = system.environment["API_PORT"]
    with refused(system, "disconnected", "Reset", "ReadError"):
        httpx.get(f"http://127.0.0.1:{port}/livez")
    with grpc.insecure_channel(f"127.0.0.1:{system.environment['GRPC_PORT']}") as channel:
        assert health(channel) is grpc.StatusCode.UNAVAILABLE
    assert all_up(system, "api")
    assert all_up(system, "grpc_reader")


def health(channel: grpc.Channel) -> grpc.StatusCode:
    """The code of a call that needs no token."""
    call = health_pb2_grpc.HealthStub(channel).Check.future(health_pb2.HealthCheckRequest(), timeout=10)
    call.exception()
    found: grpc.StatusCode = call.code()
    return found


def test_our_grpc_client_verifies_ca_and_name(
    system: System, of_client: TlsFiles, stranger: Authority
) -> None:
    port = system.environment["GRPC_PORT"]
    right = client_tls(of_client)
    for host, tls, code in (
        ("127.0.0.1", right, grpc.StatusCode.OK),
        ("127.0.0.1", replace(right, ca=stranger.ca), grpc.StatusCode.UNAVAILABLE),
        ("127.0.0.1", replace(right, certificate=None, key=None), grpc.StatusCode.UNAVAILABLE),
        ("localhost", right, grpc.StatusCode.UNAVAILABLE),
    ):
        with grpc.secure_channel(f"{host}:{port}", channel_credentials(tls)) as channel:
            assert health(channel) is code, host


# -- Renewal -------------------------------------------------------------------------------------------


def shown(system: System, variable: str) -> str:
    """The certificate, in PEM, that a new connection is shown."""
    address = ("127.0.0.1", int(system.environment[variable]))
    with (
        socket.create_connection(address, 5) as plain,
        system.tls.wrap_socket(plain, server_hostname="127.0.0.1") as end,
    ):
        return ssl.DER_cert_to_PEM_cert(end.getpeercert(binary_form=True) or b"")


@pytest.mark.parametrize(("name", "variable"), [("api", "API_PORT"), ("grpc_reader", "GRPC_PORT")])
def test_a_renewed_certificate_is_shown_without_a_restart_and_a_broken_one_is_not(
    system: System, renewable: TlsFiles, authority: Authority, name: str, variable: str
) -> None:
    log = system.services[name].log
    assert log is not None
    before = shown(system, variable)
    renewable.key.write_text("half a key")
    assert shown(system, variable) == before
    eventually(lambda: "certificate not renewed" in log.read_text(), because="the log says so")
    renewed = authority.issue(f"renewed-{variable}", "127.0.0.1")
    replaced(renewable, renewed)
    assert shown(system, variable) == renewed.certificate.read_text() != before
    assert all_up(system, "api")
