"""A good token gets in only as RFC 6750 has it carried, and only as far as its user may go."""

import json
from collections.abc import Callable

import httpx
import pytest

from tests.attacks import Forge, base64url
from tests.fixtures.api import Api
from tests.fixtures.ways_in import ACCEPTED, REFUSED, Door, GrpcDoor, RestDoor

both_doors = pytest.mark.parametrize("door", ["rest", "grpc"], indirect=True)
# Each makes header values of a token that would be accepted by itself.
WRONG: dict[str, Callable[[str], list[str]]] = {
    "no scheme": lambda token: [token],
    "another scheme": lambda token: [f"Token {token}"],
    "Basic": lambda token: [f"Basic {token}"],
    "scheme and more": lambda token: [f"BearerX {token}"],
    "colon": lambda token: [f"Bearer: {token}"],
    "no space": lambda token: [f"Bearer{token}"],
    "two tokens": lambda token: [f"Bearer {token} {token}"],
    "two tokens and a comma": lambda token: [f"Bearer {token}, Bearer {token}"],
    "the scheme twice": lambda token: [f"Bearer Bearer {token}"],
    "junk before": lambda token: [f"Bearer x {token}"],
    "junk behind": lambda token: [f"Bearer {token} x"],
    "comma behind": lambda token: [f"Bearer {token},"],
    "semicolon behind": lambda token: [f"Bearer {token};"],
    "in quotes": lambda token: [f'Bearer "{token}"'],
    "as a parameter": lambda token: [f"Bearer token={token}"],
    "in percents": lambda token: [f"Bearer {token.replace('.', '%2E')}"],
    "only the scheme": lambda _: ["Bearer"],
    "a good one twice": lambda token: [f"Bearer {token}", f"Bearer {token}"],
    "a good one, then a bad one": lambda token: [f"Bearer {token}", "Bearer a.b.c"],
    "a bad one, then a good one": lambda token: ["Bearer a.b.c", f"Bearer {token}"],
    "Basic, then a good one": lambda token: ["Basic Og==", f"Bearer {token}"],
}
# A client of gRPC does not send these: its metadata is printable ASCII.
WRONG_OVER_HTTP: dict[str, Callable[[str], list[str]]] = {
    "tab for the space": lambda token: [f"Bearer\t{token}"],
    "tab behind the space": lambda token: [f"Bearer \t{token}"],
    "no-break space behind": lambda token: [f"Bearer {token}\xa0"],
    "next line behind": lambda token: [f"Bearer {token}\x85"],
    "no-break space for the space": lambda token: [f"Bearer\xa0{token}"],
    "bytes that are no UTF-8": lambda token: [f"Bearer {token}\xff\xfe"],
    "a letter in UTF-8": lambda token: [f"Bearer {token}\xc3\xa9"],
}


@both_doors
@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer   "])
def test_the_scheme_is_taken_in_any_case(door: Door, forge: Forge, scheme: str) -> None:
    assert door.knock(scheme + forge.token()).verdict == ACCEPTED


@both_doors
@pytest.mark.parametrize("name", WRONG)
def test_a_good_token_in_a_wrong_header_is_refused(door: Door, forge: Forge, name: str) -> None:
    token = forge.token()
    answer = door.knock(*WRONG[name](token))
    assert answer.verdict == REFUSED, answer
    assert token not in answer.text


@pytest.mark.parametrize("name", WRONG_OVER_HTTP)
def test_a_header_of_unprintable_bytes_is_refused_over_http(
    rest_door: RestDoor, forge: Forge, name: str
) -> None:
    assert rest_door.knock(*WRONG_OVER_HTTP[name](forge.token())).verdict == REFUSED


@pytest.mark.parametrize("parameter", ["access_token", "token", "authorization", "bearer"])
def test_a_token_in_the_address_opens_nothing(rest_door: RestDoor, forge: Forge, parameter: str) -> None:
    answer = rest_door.send([], f"/v1/books?{parameter}={forge.token()}")
    assert answer.verdict == REFUSED


@pytest.mark.parametrize(
    "name", ["Cookie", "X-Authorization", "Proxy-Authorization", "X-Access-Token", "Authentication"]
)
def test_a_token_in_another_header_opens_nothing(
    rest_door: RestDoor, grpc_door: GrpcDoor, forge: Forge, name: str
) -> None:
    token = forge.token()
    value = f"access_token={token}; authorization=Bearer {token}" if name == "Cookie" else f"Bearer {token}"
    assert rest_door.send([(name, value)]).verdict == REFUSED
    assert grpc_door.send([(name.lower(), value)]).verdict == REFUSED


def test_a_token_in_the_body_opens_nothing(rest_door: RestDoor, grpc_door: GrpcDoor, forge: Forge) -> None:
    form = ("Content-Type", "application/x-www-form-urlencoded")
    assert rest_door.send([form], body=f"access_token={forge.token()}".encode()).verdict == REFUSED
    assert grpc_door.send([], page_token=forge.token()).verdict == REFUSED


@pytest.mark.parametrize("size", [4_097, 60_000, 1_200_000])
def test_a_huge_token_is_refused_and_the_door_stays_open(
    rest_door: RestDoor, grpc_door: GrpcDoor, forge: Forge, size: int
) -> None:
    good = forge.token()
    for huge in ("a" * size, good + "A" * size, good + "." * size):
        assert rest_door.knock(f"Bearer {huge}").verdict in {REFUSED, "431 "}
        assert grpc_door.knock(f"Bearer {huge}").verdict in {REFUSED, "RESOURCE_EXHAUSTED"}
    assert rest_door.knock(f"Bearer {good}").verdict == ACCEPTED
    assert grpc_door.knock(f"Bearer {good}").verdict == ACCEPTED


def refresh(api: Api, secret: str, **rest: str) -> httpx.Response:
    return api.post("/v1/auth/token", {"grant_type": "refresh_token", "refresh_token": secret, **rest})


def may_write(api: Api, token: str) -> bool:
    with api.client(token) as client:
        status = client.delete("/v1/books/999999").status_code
    assert status in {403, 404}, status
    return status == 404


@both_doors
def test_a_refresh_token_is_no_access_token(door: Door, api: Api) -> None:
    secret = api.login()["refresh_token"]
    answer = door.knock(f"Bearer {secret}")
    assert (answer.verdict, secret in answer.text) == (REFUSED, False)


@both_doors
def test_an_access_token_is_no_refresh_token_and_is_good_after_all(door: Door, api: Api) -> None:
    token = api.login()["access_token"]
    answer = refresh(api, token)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert token not in answer.text
    assert door.knock(f"Bearer {token}").verdict == ACCEPTED


@pytest.mark.parametrize(
    "asked", ["books:read books:write", "books:read\tbooks:write", "books:read outbox:admin books:write", ""]
)
def test_nobody_asks_a_login_for_more_than_the_user_has(api: Api, asked: str) -> None:
    login = api.login("reader", scope=asked)
    assert login["scope"] == "books:read"
    assert not may_write(api, login["access_token"])
    answer = refresh(api, login["refresh_token"], scope=asked)
    if answer.status_code == 200:
        assert not may_write(api, answer.json()["access_token"])
    else:
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


def test_a_wider_scope_that_is_written_into_a_token_opens_neither_door(
    api: Api, rest_door: RestDoor, grpc_door: GrpcDoor, forge: Forge
) -> None:
    good = api.login("reader")["access_token"]
    head, _, tail = good.split(".")
    payload = base64url(json.dumps(forge.claims(sub="reader", scope="books:read books:write")).encode())
    for door in (rest_door, grpc_door):
        assert door.knock(f"Bearer {good}").verdict == ACCEPTED
        assert door.knock(f"Bearer {head}.{payload}.{tail}").verdict == REFUSED


def test_a_refresh_token_is_dead_after_its_revocation_and_so_is_its_family(api: Api) -> None:
    first = api.login()["refresh_token"]
    second = refresh(api, first).json()["refresh_token"]
    assert api.post("/v1/auth/revoke", {"token": first}).status_code == 200
    for secret in (first, second, first):
        answer = refresh(api, secret)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
        assert secret not in answer.text
