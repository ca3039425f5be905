"""The attacks on a token itself, by name; each takes the forge and gives what stands after `Bearer `."""

import json
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from joserfc.jwk import ECKey

from common.tokens import AUDIENCES
from tests.attacks import ALPHABET, HOUR, ORDER, Forge, base64url, der, signature

Attack = Callable[[Forge], str]


def header(**changes: Any) -> Attack:  # noqa: ANN401  a member may have any type
    return lambda forge: forge.token(changes)


def claims(**changes: Any) -> Attack:  # noqa: ANN401  likewise
    return lambda forge: forge.token(claims=changes)


def ahead(**seconds: float) -> Attack:
    """Claims that are times, so many seconds from now."""
    return lambda forge: forge.token(claims={name: int(time.time()) + each for name, each in seconds.items()})


def unsigned(alg: str) -> Attack:
    return lambda forge: forge.signed_part({"alg": alg}) + "."


def strange(**changes: Any) -> Attack:  # noqa: ANN401  as above
    return lambda forge: forge.by_a_stranger(**changes)


def resigned(change: Callable[[bytes], bytes]) -> Attack:
    return lambda forge: forge.signed_otherwise(change)


def loose_end(forge: Forge) -> str:
    """The last character stands for two bits that count and four that must be zero."""
    token = forge.token()
    return token[:-1] + ALPHABET[ALPHABET.index(token[-1]) + 1]


def edited(forge: Forge) -> str:
    """The scope is made wider, the signature stays."""
    head, _, tail = forge.token().split(".")
    payload = json.dumps(forge.claims(scope="books:read books:write outbox:admin")).encode()
    return f"{head}.{base64url(payload)}.{tail}"


def signature_of_another(forge: Forge) -> str:
    return forge.signed_part() + "." + forge.token(claims={"sub": "reader"}).rsplit(".", 1)[1]


def same_name(forge: Forge) -> str:
    return forge.token(key=ECKey.generate_key("P-256", {"kid": str(forge.key.kid)}))


ALGORITHMS: dict[str, Attack] = {
    **{f"alg {alg or 'empty'}": unsigned(alg) for alg in ("none", "None", "nOnE", "")},
    "alg none and a signature": header(alg="none"),
    "no alg": header(alg=...),
    "alg null": header(alg=None),
    "alg a list": header(alg=["ES256"]),
    "alg in lower case": header(alg="es256"),
    "alg of another curve": header(alg="ES384"),
    "alg RS256": header(alg="RS256"),
    "alg EdDSA": header(alg="EdDSA"),
    "HS256 with the public key, PEM": lambda forge: forge.keyed_with(forge.public(Encoding.PEM)),
    "HS256 with the public key, DER": lambda forge: forge.keyed_with(forge.public(Encoding.DER)),
    "HS256 with the public key, JWK": lambda forge: forge.keyed_with(
        json.dumps(forge.key.as_dict(private=False)).encode()
    ),
    "HS512 with the public key": lambda forge: forge.keyed_with(forge.public(Encoding.PEM), "HS512"),
    "HS256 with an empty key": lambda forge: forge.keyed_with(b""),
}
KEYS: dict[str, Attack] = {
    "foreign key with our kid": strange(),
    "foreign key without kid": strange(kid=...),
    "foreign key that is called as ours is": same_name,
    **{
        f"kid {name}": strange(kid=kid)
        for name, kid in {
            "path": "../../../../dev/null",
            "SQL": "' UNION SELECT 'AA' -- ",
            "NUL": "key\x00.pem",
            "URL": "http://127.0.0.1:9/jwks.json",
            "command": "|/usr/bin/id",
            "surrogate": "\ud800",
            "empty": "",
            "very long": "k" * 2000,
            "null": None,
            "number": 7,
            "list": ["a"],
            "object": {"a": 1},
        }.items()
    },
    "jku": strange(jku="http://127.0.0.1:9/jwks.json"),
    "x5u": strange(x5u="http://127.0.0.1:9/chain.pem"),
    "x5c": strange(x5c=["MIIB"]),
    "jwk": lambda forge: forge.by_a_stranger(jwk=forge.strange_jwk()),
    "jwk and no kid": lambda forge: forge.by_a_stranger(jwk=forge.strange_jwk(), kid=...),
    # Well signed: such a member is not to be there even when it changes nothing.
    "our key and jku": header(jku="http://127.0.0.1:9/jwks.json"),
    "our key and jwk": lambda forge: forge.token({"jwk": forge.strange_jwk()}),
    "unknown crit": header(crit=["exp2"], exp2=1),
    "crit that is missing": header(crit=["b64"]),
    "empty crit": header(crit=[]),
    "crit a number": header(crit=7),
    "crit a list of lists": header(crit=[["a"]]),
    "payload as it is (RFC 7797)": header(crit=["b64"], b64=False),
    "zip": header(zip="DEF"),
    "cty": header(cty="JWT"),
}
# Ellipsis is: not there at all.
WRONG_VALUES: dict[str, list[Any]] = {
    "aud": [
        "elsewhere",
        ["elsewhere"],
        [*AUDIENCES, "elsewhere"],
        " ".join(AUDIENCES),
        AUDIENCES[0],
        [*AUDIENCES, ["elsewhere"]],
        [*AUDIENCES, None],
        [],
        {},
        None,
        1,
        ...,
    ],
    "iss": ["elsewhere", "Bookstore", "bookstore ", ["bookstore"], None, ...],
    "sub": [None, "", 1, ["writer"], {}, ...],
    "jti": [None, "", 1, ...],
    "iat": [None, "1", 1.5, True, 10**400, ...],
    "exp": [None, "9999999999", float("inf"), float("nan"), -1, 0, True, 10**12, 10**400, [], ...],
    "sid": [["1"], 1, None, True],
    "scope": [["books:read"], {"a": " books:read "}, 1, None, True],
}
CLAIMS: dict[str, Attack] = {
    "expired": ahead(exp=-1),
    "expired long ago": ahead(iat=-2 * HOUR, exp=-HOUR),
    "not yet valid": ahead(nbf=HOUR),
    # What clocks may differ by is a minute.
    "not yet valid for two minutes": ahead(nbf=120),
    "issued in two minutes": ahead(iat=120),
    "nbf text": claims(nbf="0"),
    "nbf null": claims(nbf=None),
    "issued in the future": ahead(iat=HOUR, exp=2 * HOUR),
    **{
        f"{name} {value!r:.20}": claims(**{name: value})
        for name, values in WRONG_VALUES.items()
        for value in values
    },
    "exp a fraction": ahead(exp=HOUR + 0.5),
    **{
        f"typ {value!r}": header(typ=value)
        for value in ("JWT", "jwt", "rt+jwt", "at+jwt ", "text/at+jwt", "", None, 1, ["at+jwt"], ...)
    },
    "two scopes": lambda forge: forge.doubled("scope", "books:write"),
    "two scopes, the good one last": lambda forge: forge.doubled("scope", "books:write", last=False),
    "two subs": lambda forge: forge.doubled("sub", "reader"),
    "two subs, written differently": lambda forge: forge.token(
        claims=json.dumps(forge.claims())[:-1] + r', "s\u0075b": "reader"}'
    ),
    "two exps": lambda forge: forge.doubled("exp", 9_999_999_999),
    "two kids": lambda forge: forge.doubled("kid", "other", in_header=True, last=False),
    "two algs": lambda forge: forge.doubled("alg", "none", in_header=True, last=False),
    "two typs": lambda forge: forge.doubled("typ", "JWT", in_header=True, last=False),
    "payload no object": lambda forge: forge.token(claims="[]"),
    "payload no JSON": lambda forge: forge.token(claims="{'sub': 'writer'}"),
    "payload empty": lambda forge: forge.token(claims=""),
    "payload nested too deeply": lambda forge: forge.token(claims='{"a":' + "[" * 2500 + "]" * 100 + "}"),
}
FORMS: dict[str, Attack] = {
    "signature cut by one": lambda forge: forge.token()[:-1],
    "signature cut by four": lambda forge: forge.token()[:-4],
    "no signature": lambda forge: forge.signed_part() + ".",
    "no third part": lambda forge: forge.signed_part(),
    "five parts": lambda forge: forge.token() + ".AAAA.AAAA",
    "only dots": lambda _: "..",
    "padded": lambda forge: forge.token() + "==",
    "padded by one": lambda forge: forge.token() + "=",
    "more characters": lambda forge: forge.token() + "AAAA",
    "bits too many": loose_end,
    "standard base64": lambda forge: forge.signed_part() + "." + "+/" * 43,
    "all zero": resigned(lambda _: bytes(64)),
    "r = 0": resigned(lambda good: bytes(32) + good[32:]),
    "s = 0": resigned(lambda good: good[:32] + bytes(32)),
    "r = n": resigned(lambda good: signature(ORDER, int.from_bytes(good[32:], "big"))),
    "r = s = n": resigned(lambda _: signature(ORDER, ORDER)),
    "r = s = 1": resigned(lambda _: signature(1, 1)),
    "r and s past 2^255": resigned(lambda _: b"\xff" * 64),
    "r and s changed about": resigned(lambda good: good[32:] + good[:32]),
    "DER": resigned(der),
    "longer halves": resigned(lambda good: b"\0" + good[:32] + b"\0" + good[32:]),
    "payload edited": edited,
    "signature of another token": signature_of_another,
    "header no object": lambda forge: forge.token(header='["alg"]'),
    "header a text": lambda forge: forge.token(header='"alg"'),
    "header a number": lambda forge: forge.token(header="1"),
    "header no JSON": lambda forge: forge.token(header="alg"),
    "header nested too deeply": lambda forge: forge.token(header="[" * 2500),
    "JSON serialization": lambda forge: base64url(forge.token().encode()),
    "more than 4096 characters": lambda forge: forge.token(claims={"padding": "x" * 4096}),
}
ATTACKS: dict[str, Attack] = {**ALGORITHMS, **KEYS, **CLAIMS, **FORMS}
# What a login for `books:read` alone sends as `scope` at a refresh, to get what its user has besides.
REFRESHES: dict[str, str] = {
    **{
        f"scope escalation by a blank scope at a refresh, {name}": blank
        for name, blank in {
            "empty": "",
            "space": " ",
            "tab": "\t",
            "line feed": "\n",
            "no-break space": "\u00a0",
            "ideographic space": "\u3000",
            "separator": "\x1f",
        }.items()
    },
    "scope escalation at a refresh": "books:read books:write",
    "scope escalation by a tab at a refresh": "books:read\tbooks:write",
    "scope escalation by a no-break space at a refresh": "books:read\u00a0books:write",
    "scope escalation by another scope alone at a refresh": "outbox:admin",
}
GOOD: dict[str, Attack] = {
    "as the API makes them": lambda forge: forge.token(),
    "by the long name of its type": header(typ="application/at+jwt"),
    "valid since a moment in our future": ahead(nbf=30, iat=30),
    # ECDSA's own: who has the one has the other. See TokenVerifier.
    "the twin of its signature": resigned(
        lambda good: good[:32] + (ORDER - int.from_bytes(good[32:], "big")).to_bytes(32, "big")
    ),
}
