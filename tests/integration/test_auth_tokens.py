"""The token and the revocation endpoint, and the keys, over HTTP."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from sqlalchemy import text

from common.database import thread_engine
from common.tokens import AUDIENCES, SCOPES
from tests.attack_table import REFRESHES
from tests.fixtures.api import PASSWORD, Api
from tests.waiting import eventually

ALL = " ".join(SCOPES)
BLANKS = ["", " ", "\t", "\u00a0"]


def refresh(api: Api, secret: str, **rest: str) -> httpx.Response:
    return api.post("/v1/auth/token", {"grant_type": "refresh_token", "refresh_token": secret, **rest})


def assert_refused(answer: httpx.Response, error: str) -> None:
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    members = answer.json()
    assert (members["error"], members["status"]) == (error, 400)
    assert members["detail"] == members["error_description"] != ""
    assert members["type"].startswith("/problems/")


def decoded(api: Api, token: str) -> Any:  # noqa: ANN401  joserfc's Token
    with api.client() as client:
        keys = KeySet.import_key_set(client.get("/.well-known/jwks.json").json())
    return jwt.decode(token, keys, algorithms=["ES256"])


def test_login_answers_as_rfc_6749_says(api: Api) -> None:
    answer = api.ask_token()
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    members = answer.json()
    assert set(members) == {"access_token", "token_type", "expires_in", "refresh_token", "scope"}
    assert (members["token_type"], members["expires_in"], members["scope"]) == ("bearer", 900, ALL)


def test_an_access_token_is_signed_by_a_published_key_and_says_who_may_do_what(api: Api) -> None:
    token = decoded(api, api.login(scope="books:read")["access_token"])
    assert {name: token.header[name] for name in ("alg", "typ")} == {"alg": "ES256", "typ": "at+jwt"}
    assert token.header["kid"]
    claims = token.claims
    assert set(claims) == {"iss", "aud", "sub", "jti", "iat", "exp", "scope", "client_id", "sid"}
    assert (claims["iss"], claims["aud"], claims["sub"]) == ("bookstore", [*AUDIENCES], "writer")
    assert claims["scope"] == "books:read"
    assert claims["exp"] - claims["iat"] == 900
    assert abs(claims["iat"] - time.time()) < 30


def test_two_tokens_never_have_the_same_id(api: Api) -> None:
    first, second = (decoded(api, api.login()["access_token"]).claims["jti"] for _ in range(2))
    assert first != second


def test_the_published_keys_have_no_private_part_and_may_be_cached(api: Api) -> None:
    with api.client() as client:
        answer = client.get("/.well-known/jwks.json")
    assert answer.headers["cache-control"] == "public, max-age=300"
    for key in answer.json()["keys"]:
        assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}


@pytest.mark.parametrize(
    ("username", "asked", "granted"),
    [
        ("writer", None, ALL),
        *(("writer", blank, ALL) for blank in BLANKS),
        ("writer", "books:write books:read", "books:read books:write"),
        ("writer", "books:read nonsense", "books:read"),
        ("reader", None, "books:read"),
        ("reader", "books:read books:write outbox:admin", "books:read"),
    ],
)
def test_granted_is_what_was_asked_for_and_what_the_user_has(
    api: Api, username: str, asked: str | None, granted: str
) -> None:
    rest = {} if asked is None else {"scope": asked}
    assert api.login(username, **rest)["scope"] == granted


@pytest.mark.parametrize("asked", ["books:write", "nonsense", 'books:"read'])
def test_asking_only_for_what_one_lacks_is_refused(api: Api, asked: str) -> None:
    assert_refused(api.ask_token("reader", scope=asked), "invalid_scope")


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("writer", "not the password"),
        ("nobody", PASSWORD),
        ("Writer", PASSWORD),
        ("wr\u0456ter", PASSWORD),
        ("writer\x00", PASSWORD),
        ("x" * 10_000, PASSWORD),
        ("writer", "x" * 10_000),
        ("writer", PASSWORD + "\x00"),
    ],
)
def test_unknown_user_and_wrong_password_get_the_same_answer(api: Api, username: str, password: str) -> None:
    answer = api.ask_token(username, password)
    assert_refused(answer, "invalid_grant")
    assert answer.json()["detail"] == "The user name or the password is not right."


@pytest.mark.usefixtures("nobody_owes")
def test_unknown_user_and_wrong_password_take_about_the_same_time(api: Api) -> None:
    def seconds(username: str) -> float:
        return api.ask_token(username, "not the password").elapsed.total_seconds()

    # In turns, so that both meet the same machine; the fastest of each, for the slow ones measure it.
    turns = [(seconds("writer"), seconds("nobody")) for _ in range(8)]
    known, unknown = map(min, zip(*turns, strict=True))
    assert 0.5 < known / unknown < 2


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("", "invalid_request"),
        ("username=writer&password=x", "invalid_request"),
        ("grant_type=password&username=writer", "invalid_request"),
        ("grant_type=password&password=x", "invalid_request"),
        ("grant_type=password&username=&password=", "invalid_request"),
        ("grant_type=refresh_token", "invalid_request"),
        ("grant_type=password&username=writer&username=reader&password=x", "invalid_request"),
        ("grant_type=password&username=%ff&password=x", "invalid_request"),
        ("grant_type=password&username=\u00e9&password=x", "invalid_request"),
        ("&".join(f"f{number}=1" for number in range(100)), "invalid_request"),
        ("grant_type=client_credentials", "unsupported_grant_type"),
        ("grant_type=authorization_code&code=x", "unsupported_grant_type"),
        ("grant_type=Password&username=writer&password=x", "unsupported_grant_type"),
        ("grant_type=refresh_token&refresh_token=unknown", "invalid_grant"),
    ],
)
def test_a_request_that_is_not_right_is_refused_with_the_code_of_rfc_6749(
    api: Api, body: str, error: str
) -> None:
    with api.client() as client:
        answer = client.post(
            "/v1/auth/token",
            content=body.encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
    assert_refused(answer, error)


@pytest.mark.parametrize("path", ["/v1/auth/token", "/v1/auth/revoke"])
def test_json_instead_of_a_form_is_415(api: Api, path: str) -> None:
    with api.client() as client:
        answer = client.post(path, json={"grant_type": "password"})
    assert (answer.status_code, answer.headers["content-type"]) == (415, "application/problem+json")


@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        ({"Authorization": "Basic Og=="}, {}),
        ({}, {"client_id": "anything"}),
        ({}, {"client_id": "", "client_secret": ""}),
    ],
)
def test_any_client_is_the_one_public_client(
    api: Api, headers: dict[str, str], fields: dict[str, str]
) -> None:
    form = {"grant_type": "password", "username": "writer", "password": PASSWORD, **fields}
    assert api.post("/v1/auth/token", form, headers=headers).status_code == 200


def test_a_refresh_token_is_replaced_at_its_use(api: Api) -> None:
    old = api.login(scope="books:read books:write")
    new = refresh(api, old["refresh_token"]).json()
    assert new["scope"] == "books:read books:write"
    assert new["refresh_token"] != old["refresh_token"]
    assert refresh(api, new["refresh_token"]).status_code == 200


def test_a_refresh_token_used_twice_ends_all_that_came_from_its_login(api: Api) -> None:
    first = api.login()["refresh_token"]
    second = refresh(api, first).json()["refresh_token"]
    assert_refused(refresh(api, first), "invalid_grant")
    assert_refused(refresh(api, second), "invalid_grant")


def test_the_reuse_of_one_login_leaves_another_alone(api: Api) -> None:
    mine, other = api.login()["refresh_token"], api.login()["refresh_token"]
    refresh(api, mine)
    assert_refused(refresh(api, mine), "invalid_grant")
    assert refresh(api, other).status_code == 200


def test_of_two_that_use_a_refresh_token_at_once_one_gets_through(api: Api) -> None:
    secret = api.login()["refresh_token"]
    engine = thread_engine(api.settings)
    with ThreadPoolExecutor(2) as pool, engine.connect() as barrier, engine.connect() as watcher:

        def both_wait() -> bool:
            rows = watcher.execute(text("SHOW FULL PROCESSLIST")).mappings()
            return sum("refresh_token" in (row["Info"] or "") for row in rows) == 2

        barrier.execute(
            text("SELECT id FROM refresh_token WHERE token_hash = :it FOR UPDATE"), {"it": digest(secret)}
        )
        answers = [pool.submit(refresh, api, secret) for _ in range(2)]
        eventually(both_wait, within=4, because="both have come as far as they can")
        barrier.rollback()
        watcher.rollback()
        assert sorted(answer.result().status_code for answer in answers) == [200, 400]
    engine.dispose()


def test_a_narrower_scope_holds_for_one_access_token_and_not_for_the_login(api: Api) -> None:
    narrow = refresh(api, api.login()["refresh_token"], scope="books:read").json()
    assert narrow["scope"] == "books:read"
    assert refresh(api, narrow["refresh_token"]).json()["scope"] == ALL


def test_a_wider_scope_than_that_of_the_login_is_refused_and_costs_nothing(api: Api) -> None:
    secret = api.login(scope="books:read")["refresh_token"]
    assert_refused(refresh(api, secret, scope="books:read books:write"), "invalid_scope")
    assert refresh(api, secret).status_code == 200


@pytest.mark.parametrize("blank", BLANKS)
def test_a_blank_scope_at_a_refresh_is_none(api: Api, blank: str) -> None:
    login = api.login(scope="books:read books:write")
    answer = refresh(api, login["refresh_token"], scope=blank).json()
    assert answer["scope"] == "books:read books:write"
    assert decoded(api, answer["access_token"]).claims["scope"] == "books:read books:write"


@pytest.mark.parametrize("name", REFRESHES)
def test_no_refresh_has_more_than_its_login_was_granted(api: Api, name: str) -> None:
    secret = api.login(scope="books:read")["refresh_token"]
    answer = refresh(api, secret, scope=REFRESHES[name])
    if answer.status_code == 200:
        assert answer.json()["scope"] == "books:read"
        assert decoded(api, answer.json()["access_token"]).claims["scope"] == "books:read"
        secret = answer.json()["refresh_token"]
    else:
        assert_refused(answer, "invalid_scope")
    assert refresh(api, secret).json()["scope"] == "books:read"


def test_a_refresh_has_no_more_than_its_user_has_now(api: Api) -> None:
    secret = api.login(scope="books:read books:write")["refresh_token"]
    change = "UPDATE user_account SET scopes = '{}' WHERE username = 'writer'"
    execute(api, change.format("books:write outbox:admin"), secret)
    try:
        answer = refresh(api, secret).json()
    finally:
        execute(api, change.format(ALL), secret)
    assert answer["scope"] == "books:write"
    # The login keeps what it was granted (RFC 6749, section 6), should the user have it again.
    assert refresh(api, answer["refresh_token"]).json()["scope"] == "books:read books:write"


def test_an_expired_refresh_token_is_refused(api: Api) -> None:
    secret = api.login()["refresh_token"]
    execute(
        api,
        "UPDATE refresh_token SET expires_at = issued_at - INTERVAL 1 SECOND WHERE token_hash = :it",
        secret,
    )
    assert_refused(refresh(api, secret), "invalid_grant")


def test_only_the_hash_of_a_refresh_token_is_stored(api: Api) -> None:
    secret = api.login()["refresh_token"]
    assert len(secret) >= 43
    assert execute(api, "SELECT COUNT(*) FROM refresh_token WHERE token_hash = :it", secret) == 1


def test_a_revoked_refresh_token_is_good_for_nothing(api: Api) -> None:
    first = api.login()["refresh_token"]
    second = refresh(api, first).json()["refresh_token"]
    form = {"token": second, "token_type_hint": "refresh_token"}
    assert api.post("/v1/auth/revoke", form).status_code == 200
    assert_refused(refresh(api, second), "invalid_grant")


@pytest.mark.parametrize("form", [{"token": "unknown"}, {"token": "\ud7ff", "token_type_hint": "no such"}])
def test_revoking_what_is_no_token_succeeds(api: Api, form: dict[str, str]) -> None:
    assert api.post("/v1/auth/revoke", form).status_code == 200


@pytest.mark.parametrize("body", ["", "x=y", "token=", "token=a&token=b", "token=%ff"])
def test_revoking_nothing_is_refused(api: Api, body: str) -> None:
    with api.client() as client:
        answer = client.post(
            "/v1/auth/revoke", content=body, headers={"Content-Type": "application/x-www-form-urlencoded"}
        )
    assert_refused(answer, "invalid_request")


def test_twenty_logins_at_once_all_succeed(api: Api) -> None:
    with ThreadPoolExecutor(20) as pool:
        assert {answer.status_code for answer in pool.map(lambda _: api.ask_token(), range(20))} == {200}


def execute(api: Api, statement: str, secret: str) -> Any:  # noqa: ANN401  whatever was selected
    engine = thread_engine(api.settings)
    with engine.begin() as connection:
        result = connection.execute(text(statement), {"it": digest(secret)})
        found = result.scalar() if result.returns_rows else None
    engine.dispose()
    return found


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
