"""What is wrong with files and variables of TLS is said before anything is opened, by the variable's name."""

import contextlib
import re
import shutil
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from api.settings import ApiSettings
from common.errors import StartError
from common.settings import Settings
from common.tls import ClientTls, ServerTls
from devstack.servers import TlsFiles
from devstack.up import _NO_TLS, _OF_SERVICES
from grpc_reader.settings import ClientSettings, ReaderSettings
from outbox_relay.settings import RelaySettings
from tests.fixtures.certificates import Authority
from tests.fixtures.schema import ROOT

_SERVERS: dict[str, type[Settings]] = {"API_TLS": ApiSettings, "GRPC_TLS": ReaderSettings}
_CLIENTS: dict[str, type[Settings]] = {
    "DATABASE_TLS": RelaySettings,
    "BROKER_TLS": ApiSettings,
    "CACHE_TLS": RelaySettings,
    "API_CLIENT_TLS": ReaderSettings,
    "GRPC_CLIENT_TLS": ClientSettings,
}
_KINDS = {**_SERVERS, **_CLIENTS}
_NOTHING: Mapping[str, str] = MappingProxyType({})
Read = Callable[..., Any]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Read:
    """The settings that have variables of this prefix, from the environment with these endings."""
    monkeypatch.setenv("DATABASE_URL", "mysql://u:p@127.0.0.1:1/n")
    monkeypatch.setenv("BROKER_URL", "amqps://u:p@127.0.0.1:1//")
    monkeypatch.setenv("CACHE_URL", "rediss://127.0.0.1:1/0")
    monkeypatch.setenv("JWKS_URL", "https://127.0.0.1:1/jwks.json")
    monkeypatch.setenv("API_URL", "https://127.0.0.1:1")
    monkeypatch.setenv("SIGNING_KEYS_DIR", str(tmp_path))

    def from_environment(prefix: str, others: Mapping[str, str] = _NOTHING, **endings: Path) -> Settings:
        for name, value in others.items():
            monkeypatch.setenv(name, value)
        for ending, path in endings.items():
            monkeypatch.setenv(f"{prefix}_{ending}", str(path))
        kind = ClientSettings if "API_URL" in others else _KINDS[prefix]
        return kind.from_environment()

    return from_environment


@pytest.mark.parametrize("prefix", _KINDS)
def test_operators_are_shown_every_variable(prefix: str) -> None:
    text = (ROOT / "docs/operations.md").read_text("utf-8")
    names = {name.upper() for name in _KINDS[prefix].model_fields if name.startswith(prefix.lower() + "_")}
    assert len(names) == 3
    assert all(f"`{name}`" in text for name in names)


@pytest.mark.parametrize("prefix", _KINDS)
def test_files_that_are_right_are_taken(prefix: str, read: Read, of_server: TlsFiles) -> None:
    ending = "CLIENT_CA" if prefix in _SERVERS else "CA"
    read(prefix, **{ending: of_server.ca}, CERTIFICATE=of_server.certificate, KEY=of_server.key)


@pytest.mark.parametrize("prefix", _KINDS)
def test_a_certificate_without_its_key_and_a_key_without_its_certificate_are_refused(
    prefix: str, read: Read, of_server: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StartError, match=f"^{prefix}_CERTIFICATE is of no use alone: set {prefix}_KEY, too"):
        read(prefix, CERTIFICATE=of_server.certificate)
    monkeypatch.delenv(f"{prefix}_CERTIFICATE")
    with pytest.raises(StartError, match=f"^{prefix}_KEY is of no use alone: set {prefix}_CERTIFICATE, too"):
        read(prefix, KEY=of_server.key)


@pytest.mark.parametrize("prefix", _SERVERS)
def test_a_client_ca_without_a_certificate_is_refused(prefix: str, read: Read, of_server: TlsFiles) -> None:
    with pytest.raises(StartError, match=f"^{prefix}_CLIENT_CA is of no use alone: set {prefix}_CERTIFICATE"):
        read(prefix, CLIENT_CA=of_server.ca)


@pytest.mark.parametrize("prefix", _KINDS)
def test_a_file_that_is_missing_is_named(
    prefix: str, read: Read, of_server: TlsFiles, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.pem"
    said = re.escape(f"_CERTIFICATE: cannot read {missing} (No such file or directory).")
    with pytest.raises(StartError, match=prefix + said):
        read(prefix, CERTIFICATE=missing, KEY=of_server.key)
    said = re.escape(f"_KEY: cannot read {missing} (No such file or directory).")
    with pytest.raises(StartError, match=prefix + said):
        read(prefix, CERTIFICATE=of_server.certificate, KEY=missing)
    ending = "CLIENT_CA" if prefix in _SERVERS else "CA"
    with pytest.raises(StartError, match=f"^{prefix}_{ending}: cannot read"):
        read(prefix, **{ending: missing}, CERTIFICATE=of_server.certificate, KEY=of_server.key)


@pytest.mark.parametrize("prefix", _KINDS)
def test_the_key_of_another_certificate_is_refused(
    prefix: str, read: Read, of_server: TlsFiles, of_client: TlsFiles
) -> None:
    with pytest.raises(StartError, match=f"^{prefix}_KEY: .* is not the key of {prefix}_CERTIFICATE"):
        read(prefix, CERTIFICATE=of_server.certificate, KEY=of_client.key)


@pytest.mark.parametrize("prefix", _KINDS)
def test_files_of_another_kind_are_refused(
    prefix: str, read: Read, of_server: TlsFiles, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    other.write_text("not PEM")
    with pytest.raises(StartError, match=f"^{prefix}_CERTIFICATE and {prefix}_KEY .* must be a certificate"):
        read(prefix, CERTIFICATE=other, KEY=of_server.key)
    ending = "CLIENT_CA" if prefix in _SERVERS else "CA"
    with pytest.raises(StartError, match=f"^{prefix}_{ending}: .* must be certificates of CAs in PEM"):
        read(prefix, **{ending: other}, CERTIFICATE=of_server.certificate, KEY=of_server.key)


def test_a_key_with_a_password_is_refused_and_the_terminal_is_not_asked(
    read: Read, of_server: TlsFiles, tmp_path: Path
) -> None:
    locked = tmp_path / "locked.key"
    key = load_pem_private_key(of_server.key.read_bytes(), None)
    locked.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    with pytest.raises(StartError, match="without a password"):
        read("API_TLS", CERTIFICATE=of_server.certificate, KEY=locked)


@pytest.mark.parametrize(
    ("prefix", "variable", "plain"),
    [
        ("BROKER_TLS", "BROKER_URL", "amqp://u:p@127.0.0.1:1//"),
        ("CACHE_TLS", "CACHE_URL", "redis://127.0.0.1:1/0"),
        ("API_CLIENT_TLS", "JWKS_URL", "http://127.0.0.1:1/jwks.json"),
        ("API_CLIENT_TLS", "API_URL", "http://127.0.0.1:1"),
    ],
)
def test_files_for_an_address_that_means_plaintext_are_refused(
    prefix: str, variable: str, plain: str, read: Read, of_server: TlsFiles
) -> None:
    with pytest.raises(StartError, match=f"^{variable} means plaintext"):
        read(prefix, {variable: plain}, CA=of_server.ca)


@pytest.mark.parametrize("variable", ["JWKS_URL", "API_URL"])
def test_a_password_in_an_address_that_is_logged_is_refused_and_not_told(variable: str, read: Read) -> None:
    with pytest.raises(StartError, match=f"^{variable} must have no user name") as refused:
        read("API_CLIENT_TLS", {variable: "https://ada:planted@127.0.0.1:1/jwks.json"})
    assert "planted" not in str(refused.value)


def shown(context: ssl.SSLContext, authority: Authority) -> str:
    """The certificate that a client is shown, in PEM; the handshake is done in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ClientTls("TEST", authority.ca).context()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1"),
        context.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(3):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ssl.DER_cert_to_PEM_cert(ends[0].getpeercert(binary_form=True) or b"")


def test_a_pair_that_is_renewed_by_halves_is_taken_up_when_it_is_whole(
    authority: Authority, tmp_path: Path
) -> None:
    """Only the contexts; what a server then shows is seen in tests/e2e/test_tls.py."""
    first, second = authority.issue("half-a", "127.0.0.1"), authority.issue("half-b", "127.0.0.1")
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    shutil.copy(first.certificate, certificate)
    shutil.copy(first.key, key)
    context = ServerTls("API_TLS", certificate, key).context()
    assert context is not None
    shutil.copy(second.certificate, certificate)
    assert shown(context, authority) == first.certificate.read_text()
    shutil.copy(second.key, key)
    assert shown(context, authority) == second.certificate.read_text()


def test_make_up_serves_plaintext_on_loopback_whatever_the_environment_says() -> None:
    prefixes = ("api_tls_", "grpc_tls_", "api_client_tls_")
    fields = {*ApiSettings.model_fields, *ReaderSettings.model_fields}
    assert {name.upper() for name in fields if name.startswith(prefixes)} == set(_NO_TLS)
    assert {_OF_SERVICES[name] for name in _NO_TLS} == {""}
