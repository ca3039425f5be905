"""Who gets in with which token."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from api.auth.keys import SigningKeys
from common.tokens import AUDIENCES, SCOPES
from tests.fixtures.api import Api
from tests.fixtures.ledger import Ledger
from tests.waiting import eventually

DUNE = {"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"}
CSV = b"title,author,publication_date\nDune,Frank Herbert,1965-08-01\n"


def read(api: Api, authorization: str | None) -> httpx.Response:
    headers = {} if authorization is None else {"Authorization": authorization}
    with api.client() as client:
        return client.get("/v1/books", headers=headers)


def claims(**others: Any) -> dict[str, Any]:  # noqa: ANN401  claims are of any type
    now = int(time.time())
    good = {
        "iss": "bookstore",
        "aud": [*AUDIENCES],
        "sub": "writer",
        "jti": "1",
        "iat": now,
        "exp": now + 60,
        "scope": "books:read",
    }
    return {name: value for name, value in {**good, **others}.items() if value is not None}


def made(api: Api, *, header: dict[str, Any] | None = None, **others: Any) -> str:  # noqa: ANN401
    """A token signed with the API's own key, wrong only in what is asked for."""
    keys = SigningKeys.open(api.settings.signing_keys_dir).signing()
    return jwt.encode({"alg": "ES256", "typ": "at+jwt", **(header or {})}, claims(**others), keys)


def encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def unsigned(_: Api) -> str:
    return f"{encoded({'alg': 'none', 'typ': 'at+jwt'})}.{encoded(claims())}."


def with_public_key_as_secret(api: Api) -> str:
    public = json.loads(SigningKeys.open(api.settings.signing_keys_dir).jwks)["keys"][0]
    secret = ECKey.import_key(public).as_pem(private=False)
    # By hand, for joserfc refuses to make such a token.
    signed = ".".join(
        encoded(part) for part in ({"alg": "HS256", "typ": "at+jwt", "kid": public["kid"]}, claims())
    )
    signature = hmac.digest(secret, signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def by_a_stranger(api: Api) -> str:
    ours = json.loads(SigningKeys.open(api.settings.signing_keys_dir).jwks)["keys"][0]["kid"]
    stranger = KeySet([ECKey.import_key(ECKey.generate_key("P-256").as_pem(private=True), {"kid": ours})])
    return jwt.encode({"alg": "ES256", "typ": "at+jwt"}, claims(), stranger)


def tampered(api: Api) -> str:
    head, _, signature = made(api).split(".")
    return f"{head}.{encoded(claims(scope='books:write'))}.{signature}"


BAD: dict[str, Callable[[Api], str]] = {
    "alg none": unsigned,
    "HS256 with the public key": with_public_key_as_secret,
    "foreign key": by_a_stranger,
    "tampered": tampered,
    "cut signature": lambda api: made(api)[:-4],
    "unknown kid": lambda api: made(api).replace("eyJ", "eyK", 1),
    "expired": lambda api: made(api, exp=int(time.time()) - 1),
    "other issuer": lambda api: made(api, iss="elsewhere"),
    "other audience": lambda api: made(api, aud="elsewhere"),
    "no audience": lambda api: made(api, aud=None),
    "no expiry": lambda api: made(api, exp=None),
    "no subject": lambda api: made(api, sub=None),
    "no id": lambda api: made(api, jti=None),
    "not an access token": lambda api: made(api, header={"typ": "JWT"}),
    "refresh token": lambda api: str(api.login()["refresh_token"]),
    "three words": lambda _: "a.b.c",
    "not ASCII": lambda _: "\u00e9",
    "huge": lambda _: "a" * 10_000,
}


def test_a_token_made_like_the_bad_ones_but_right_is_accepted(api: Api) -> None:
    assert read(api, f"Bearer {made(api)}").status_code == 200


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_token_is_401_invalid_token(api: Api, kind: str) -> None:
    with api.client() as client:
        authorization = f"Bearer {BAD[kind](api)}".encode()
        answer = client.get("/v1/books", headers=[(b"Authorization", authorization)])
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="bookstore", error="invalid_token"'
    assert answer.json()["type"] == "/problems/unauthenticated"


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic Og==", "Basic d3JpdGVyOng="])
def test_no_token_is_401_without_an_error_code(api: Api, authorization: str | None) -> None:
    answer = read(api, authorization)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="bookstore"'


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v1/books", "books:read"),
        ("GET", "/v1/books/1", "books:read"),
        ("POST", "/v1/books", "books:write"),
        ("PUT", "/v1/books/1", "books:write"),
        ("PATCH", "/v1/books/1", "books:write"),
        ("DELETE", "/v1/books/1", "books:write"),
        ("POST", "/v1/books:import", "books:write"),
    ],
)
def test_each_call_asks_for_its_scope_and_does_nothing_without(
    api: Api, ledger: Ledger, method: str, path: str, scope: str
) -> None:
    options: dict[str, Any] = {} if method in {"GET", "DELETE"} else {"json": DUNE}
    if path.endswith(":import"):
        options = {"content": CSV, "headers": {"Content-Type": "text/csv"}}
    with ledger.grows(), api.client() as client:
        answer = client.request(method, path, **options)
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthenticated")
    assert answer.headers["www-authenticate"] == 'Bearer realm="bookstore"'
    others = " ".join(name for name in SCOPES if name != scope)
    with ledger.grows(), api.client(made(api, scope=others)) as client:
        answer = client.request(method, path, **options)
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/missing-scope")
    assert answer.headers["www-authenticate"] == (
        f'Bearer realm="bookstore", error="insufficient_scope", scope="{scope}"'
    )
    assert scope in answer.json()["detail"]


def test_a_token_is_refused_from_the_second_in_which_it_expires(api: Api) -> None:
    token = made(api, exp=int(time.time()) + 1)
    eventually(lambda: read(api, f"Bearer {token}").status_code == 401)
