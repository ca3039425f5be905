import socket

import pytest

from devstack.servers import SetupError, free_port, port_from_environment


@pytest.mark.parametrize("value", ["abc", "0", "65536", "-1", "1.5"])
def test_a_port_that_is_none_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("API_PORT", value)
    with pytest.raises(SetupError, match=f"API_PORT must be a port, 1 to 65535, not '{value}'"):
        port_from_environment("API_PORT", 8000)


def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_PORT", "")
    port = free_port()
    assert port_from_environment("API_PORT", port) == port


def test_a_port_in_use_is_refused_with_the_variable_that_moves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("API_PORT", str(taken.getsockname()[1]))
        with pytest.raises(SetupError, match="set API_PORT to a free port"):
            port_from_environment("API_PORT", 8000)
