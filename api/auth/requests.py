from collections.abc import Mapping

from authlib.oauth2.rfc6749 import OAuth2Request
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from sqlalchemy import Connection

from common.tokens import Principal


class PublicClient:
    """Whoever calls: clients have no secret and need no name (RFC 6749, section 2.1)."""

    def get_client_id(self) -> str:
        """What stands in the claim `client_id` (RFC 9068, section 2.2)."""
        return "bookstore-public"

    def check_grant_type(self, _: str) -> bool:
        """All grants that are registered."""
        return True

    def get_allowed_scope(self, scope: str) -> str:
        """Scopes are bounded by the user, not by the client."""
        return scope


class TokenRequest(OAuth2Request):  # type: ignore[misc]  # Authlib has no types
    """A form that was posted from `host`, and the transaction that it is answered in.

    `bearer` is whom the form's token belongs to, where that is a good access token.
    """

    def __init__(
        self, form: Mapping[str, str], connection: Connection, host: str, bearer: Principal | None = None
    ) -> None:
        # Authlib refuses plain http. Where TLS is due it ends before this process, and on loopback it is not.
        super().__init__("POST", "https://bookstore.invalid/")
        self.payload = BasicOAuth2Payload(dict(form))
        self.connection = connection
        self.host = host
        self.bearer = bearer

    @property
    def form(self) -> dict[str, str]:
        """The form as Authlib's grants read it."""
        return self.payload.data  # type: ignore[no-any-return]
