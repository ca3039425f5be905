"""Tokens made by hand, as an attacker would, each wrong in one thing."""

import base64
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import ECKey

from common.tokens import AUDIENCES

Part = Mapping[str, Any] | str
_NOTHING: Mapping[str, Any] = MappingProxyType({})
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
HOUR = 3600


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signature(r: int, s: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def der(data: bytes) -> bytes:
    """The other form of a signature, that of X.509."""
    numbers = [int.from_bytes(half, "big") for half in (data[:32], data[32:])]
    encoded = [each.to_bytes(each.bit_length() // 8 + 1, "big") for each in numbers]
    body = b"".join(bytes([2, len(each)]) + each for each in encoded)
    return bytes([0x30, len(body)]) + body


@dataclass(frozen=True)
class Forge:
    """`key` is the API's own: what is signed with it is wrong in nothing but what a caller changes."""

    key: ECKey
    stranger: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256"))

    def header(self, **changes: Any) -> dict[str, Any]:  # noqa: ANN401  a member may have any type
        return _without_nothing({"alg": "ES256", "typ": "at+jwt", "kid": self.key.kid, **changes})

    def claims(self, **changes: Any) -> dict[str, Any]:  # noqa: ANN401  likewise
        now = int(time.time())
        good = {"iss": "bookstore", "aud": [*AUDIENCES], "sub": "writer", "scope": "books:read"}
        return _without_nothing({**good, "jti": "1", "iat": now, "exp": now + HOUR, **changes})

    def signed_part(self, header: Part = _NOTHING, claims: Part = _NOTHING) -> str:
        """Header and payload; a mapping changes what is good, a text stands as it is."""
        parts = [
            header if isinstance(header, str) else json.dumps(self.header(**header)),
            claims if isinstance(claims, str) else json.dumps(self.claims(**claims)),
        ]
        return ".".join(base64url(part.encode()) for part in parts)

    def token(self, header: Part = _NOTHING, claims: Part = _NOTHING, key: ECKey | None = None) -> str:
        text = self.signed_part(header, claims)
        return f"{text}.{base64url(self.sign(text, key))}"

    def sign(self, text: str, key: ECKey | None = None) -> bytes:
        private = (key or self.key).private_key
        assert isinstance(private, EllipticCurvePrivateKey)
        return signature(*decode_dss_signature(private.sign(text.encode(), ECDSA(SHA256()))))

    def signed_otherwise(self, change: Callable[[bytes], bytes]) -> str:
        """A good token with another signature, made of the right one."""
        text = self.signed_part()
        return f"{text}.{base64url(change(self.sign(text)))}"

    def keyed_with(self, secret: bytes, alg: str = "HS256") -> str:
        """Signed with a text that is no secret: the public key in one of its forms."""
        text = self.signed_part({"alg": alg})
        return f"{text}.{base64url(hmac.digest(secret, text.encode(), 'sha' + alg[2:]))}"

    def public(self, encoding: Encoding) -> bytes:
        return self.key.public_key.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)

    def doubled(self, member: str, other: object, *, in_header: bool = False, last: bool = True) -> str:
        """A token of which one part has a member twice, the good value and another."""
        good = self.header() if in_header else self.claims()
        twice = [(member, other)]
        pairs = [*good.items(), *twice] if last else [*twice, *good.items()]
        text = "{" + ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs) + "}"
        return self.token(header=text) if in_header else self.token(claims=text)

    def by_a_stranger(self, **header: Any) -> str:  # noqa: ANN401  as above
        return self.token(header, key=self.stranger)

    def strange_jwk(self) -> dict[str, Any]:
        return dict(self.stranger.as_dict(private=False))

    def secrets(self) -> list[str]:
        """What no answer may contain of the keys, the public one included: answers are no place for keys."""
        members = self.key.as_dict(private=True)
        pem = self.key.as_pem(private=True).decode()
        return [str(members[name]) for name in "dxy"] + pem.splitlines()[1:-1]


def _without_nothing(members: dict[str, Any]) -> dict[str, Any]:
    """Without those that are Ellipsis: None is a value in JSON."""
    return {name: value for name, value in members.items() if value is not ...}
