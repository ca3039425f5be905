"""Servers that show a certificate and want none, and what is not started at all."""

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.tls import ClientTls
from devstack.servers import TlsFiles
from grpc_reader.tls import channel_credentials
from tests.fixtures.certificates import Authority
from tests.fixtures.system_services import Starter
from tests.waiting import eventually


def one_sided(prefix: str, files: TlsFiles) -> dict[str, str]:
    return {f"{prefix}_CERTIFICATE": str(files.certificate), f"{prefix}_KEY": str(files.key)}


def test_the_api_lets_in_who_has_no_certificate_where_it_wants_none(
    start: Starter, of_server: TlsFiles, stranger: Authority
) -> None:
    api = start("api", **one_sided("API_TLS", of_server))
    url = f"https://127.0.0.1:{api.process.environment['API_PORT']}/livez"

    def ask(tls: ClientTls) -> int:
        return httpx.get(url, verify=tls.context()).status_code

    eventually(lambda: "serving" in api.log, because="the API serves")
    assert eventually(lambda: ask(ClientTls("TEST", of_server.ca)), because="it answers") == 200
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        ask(ClientTls("TEST", stranger.ca))


def test_grpc_lets_in_who_has_no_certificate_where_it_wants_none(
    start: Starter, of_server: TlsFiles, stranger: Authority
) -> None:
    reader = start("grpc_reader", **one_sided("GRPC_TLS", of_server))
    eventually(lambda: reader.ready, because="the reader is ready")
    address = f"127.0.0.1:{reader.process.environment['GRPC_PORT']}"

    def ask(tls: ClientTls) -> grpc.StatusCode:
        with grpc.secure_channel(address, channel_credentials(tls)) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            call = stub.Check.future(health_pb2.HealthCheckRequest(), timeout=10)
            call.exception()
            code: grpc.StatusCode = call.code()
        return code

    assert ask(ClientTls("TEST", of_server.ca)) is grpc.StatusCode.OK
    assert ask(ClientTls("TEST", stranger.ca)) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [("api", "API_TLS"), ("grpc_reader", "GRPC_TLS"), ("outbox_relay", "DATABASE_TLS")],
)
def test_a_service_whose_files_are_wrong_ends_with_a_sentence(
    start: Starter, of_server: TlsFiles, of_client: TlsFiles, kind: str, prefix: str
) -> None:
    service = start(kind, **one_sided(prefix, of_server) | {f"{prefix}_KEY": str(of_client.key)})
    eventually(lambda: not service.process.running, because="it ends")
    assert service.process.exit_code() == 1
    [line] = service.log.splitlines()
    assert line.startswith(f"{prefix}_KEY: ")
    assert line.endswith("set the two that belong together.")
