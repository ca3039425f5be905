"""The login of the reader's client commands, where something else than the API answers."""

import pytest
from pydantic import AnyHttpUrl, SecretStr

from common.errors import StartError
from grpc_reader.client import log_in
from grpc_reader.settings import ClientSettings
from tests.fixtures.answering import answering


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x1b[2J\x9b\r\n",
        b"HTTP/1.1 x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\n\r\n\xff",
        b"",
    ],
)
def test_a_login_where_the_api_is_not_is_one_sentence_that_no_terminal_obeys(answer: bytes) -> None:
    with answering(answer, after=1) as url:
        settings = ClientSettings(
            api_url=AnyHttpUrl(url),
            demo_username="ada",
            demo_password=SecretStr("secret"),
            bookstore_token=None,
        )
        with pytest.raises(StartError) as refused:
            log_in(settings)
    said = str(refused.value)
    assert said.startswith(f"The login at {url}/v1/auth/token failed (")
    assert said.endswith("): check API_URL and that the API runs.")
    assert said.isprintable()
    assert "secret" not in said
