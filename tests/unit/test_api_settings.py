import pytest

from api.settings import ApiSettings
from common.errors import StartError

NEEDED = {
    "DATABASE_URL": "mysql://app:app@127.0.0.1/bookstore",
    "BROKER_URL": "amqp://guest:guest@127.0.0.1/",
    "CACHE_URL": "redis://127.0.0.1/0",
    "SIGNING_KEYS_DIR": "/nowhere",
}


@pytest.fixture(autouse=True)
def _needed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "value",
    [
        "*",
        "null",
        "shop.example",
        "https://shop.example/",
        "https://shop.example/books",
        "https://Shop.example",
        "https://shop.example:443",
        "http://shop.example:80",
        "https://user@shop.example",
        "https://shop.example:x",
        "ftp://shop.example",
        "https://",
        "https://shop.example, https://*.shop.example/",
    ],
)
def test_what_is_no_origin_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CORS_ALLOWED_ORIGINS", value)
    with pytest.raises(StartError, match="CORS_ALLOWED_ORIGINS: must "):
        ApiSettings.from_environment()


def test_origins_are_taken_as_browsers_send_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ApiSettings.from_environment().origins == ()
    monkeypatch.setenv(
        "CORS_ALLOWED_ORIGINS", "https://shop.example, http://localhost:5173,http://[::1]:8080"
    )
    assert ApiSettings.from_environment().origins == (
        "https://shop.example",
        "http://localhost:5173",
        "http://[::1]:8080",
    )


@pytest.mark.parametrize("value", ["PT0S", "-PT1S"])
def test_a_refresh_token_that_lasts_no_time_is_refused_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("REFRESH_TOKEN_LIFETIME", value)
    with pytest.raises(StartError, match=r"\(REFRESH_TOKEN_LIFETIME: .*greater than 0 .*\.env\.example\.$"):
        ApiSettings.from_environment()


@pytest.mark.parametrize(
    "value", ["*", "proxy", "10.0.0.0/33", "10.0.0.1/8", "0.0.0.0/0", "::/0", "10.0.0.1 10.0.0.2"]
)
def test_what_is_no_proxy_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", value)
    with pytest.raises(StartError, match="TRUSTED_PROXIES: must "):
        ApiSettings.from_environment()


def test_proxies_are_addresses_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1,2001:db8::/32")
    assert ApiSettings.from_environment().proxies == ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]
