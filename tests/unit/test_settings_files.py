"""SECRETS_DIR: each setting can come from a file of its name, and the environment is stronger."""

from pathlib import Path

import pytest

from api.import_client import ImportSettings
from api.settings import ApiSettings
from common.errors import StartError
from common.settings import DatabaseSettings
from grpc_reader.settings import ClientSettings, ReaderSettings
from outbox_relay.settings import RelaySettings

VARIABLES = ("DATABASE_URL", "BROKER_URL", "CACHE_URL", "SIGNING_KEYS_DIR", "DEMO_USERNAME", "DEMO_PASSWORD")
DATABASE, BROKER, CACHE = "mysql://u:p@database/bookstore", "amqp://u:p@broker//", "redis://:p@cache/0"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    (tmp_path / "database_url").write_text(f"{DATABASE}\n")
    (tmp_path / "broker_url").write_text(BROKER)
    (tmp_path / "cache_url").write_text(CACHE)
    (tmp_path / "demo_username").write_text("demo")
    (tmp_path / "demo_password").write_text("secret of the demo user")
    return tmp_path


def test_api_finds_its_servers_in_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNING_KEYS_DIR", str(folder / "keys"))
    settings = ApiSettings.from_environment()
    found = (settings.database_url, settings.broker_url, settings.cache_url)
    assert [secret.get_secret_value() for secret in found] == [DATABASE, BROKER, CACHE]


def test_relay_finds_its_servers_in_files(folder: Path) -> None:
    settings = RelaySettings()
    assert settings.database_url.get_secret_value() == DATABASE
    assert settings.broker_url.get_secret_value() == BROKER
    assert settings.cache_url is not None
    assert settings.cache_url.get_secret_value() == CACHE


def test_reader_finds_its_servers_in_files(folder: Path) -> None:
    settings = ReaderSettings.from_environment()
    assert settings.database_url.get_secret_value() == DATABASE
    assert settings.broker_url.get_secret_value() == BROKER
    assert settings.cache_url.get_secret_value() == CACHE


@pytest.mark.parametrize("settings", [ImportSettings, ClientSettings])
def test_clients_find_the_login_in_files(
    folder: Path, settings: type[ImportSettings] | type[ClientSettings]
) -> None:
    found = settings()
    assert found.demo_username == "demo"
    assert found.demo_password is not None
    assert found.demo_password.get_secret_value() == "secret of the demo user"


def test_environment_is_stronger_than_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://u:p@elsewhere/bookstore")
    assert DatabaseSettings().database_url.get_secret_value() == "mysql://u:p@elsewhere/bookstore"


def test_empty_variable_gives_way_to_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "")
    assert DatabaseSettings().database_url.get_secret_value() == DATABASE


def test_without_the_variable_files_are_not_looked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRETS_DIR", "")
    with pytest.raises(StartError, match="DATABASE_URL: Field required"):
        ReaderSettings.from_environment()


def test_missing_file_is_named_as_its_variable(folder: Path) -> None:
    (folder / "broker_url").unlink()
    with pytest.raises(StartError, match="BROKER_URL: Field required"):
        ReaderSettings.from_environment()
