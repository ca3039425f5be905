"""Authlib's authorization server, with what it needs to work here: one public client, our tables."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from authlib.oauth2.rfc6749 import AuthorizationServer, InvalidScopeError
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from sqlalchemy import Engine

from api.auth import refresh_tokens, users
from api.auth.grants import PasswordGrant, RefreshGrant, Revocation, check_password
from api.auth.guessing import Guesser
from api.auth.keys import SigningKeys
from api.auth.logins import Login
from api.auth.passwords import Passwords
from api.auth.requests import PublicClient, TokenRequest
from common.database import RETRY_SECONDS, transaction
from common.errors import ContendedError, DatabaseUnavailableError
from common.retry import retry
from common.tokens import ALGORITHM, ISSUER, Principal

Answer = tuple[int, dict[str, Any]]
_again = retry(
    times=3, delay=0.05, exceptions=(ContendedError, DatabaseUnavailableError), within=RETRY_SECONDS
)


class AccessTokens(JWTBearerTokenGenerator):  # type: ignore[misc]  # Authlib has no types
    """Makes the answer to a granted request: an ES256 `at+jwt` (RFC 9068) and a refresh token."""

    def __init__(self, keys: SigningKeys, lifetime: timedelta) -> None:
        super().__init__(
            ISSUER, ALGORITHM, lambda **_: refresh_tokens.new_secret(), int(lifetime.total_seconds())
        )
        self._keys = keys

    def get_jwks(self) -> Any:  # noqa: ANN401  Authlib's own
        """The key to sign with."""
        return self._keys.signing()

    def get_audiences(self, client: object, user: Login, scope: str) -> list[str]:  # noqa: ARG002  Authlib's
        """The services that the login is for."""
        return list(user.audiences)

    def get_extra_claims(self, client: object, grant_type: str, user: Login, scope: str) -> dict[str, str]:  # noqa: ARG002
        """The name of the login, by which all its tokens can be denied."""
        return {"sid": user.family}

    def generate(self, grant_type: str, client: object, user: Login, scope: str | None, *rest: Any) -> Any:  # noqa: ANN401
        """What is granted is what was asked for *and* what the login may have; nothing asked means all."""
        asked = (scope or "").split()
        granted = [name for name in user.scopes if name in asked or not asked]
        if not granted:
            raise InvalidScopeError("None of the requested scopes is yours.")
        return super().generate(grant_type, client, user, " ".join(granted), *rest)


class LoginServer(AuthorizationServer):  # type: ignore[misc]  # Authlib has no types
    """Answers the token and the revocation endpoint. It blocks: run it in a thread.

    Each answer, a refusal too, is one transaction: a refused reuse of a refresh token has revoked its family
    when the client reads of it.
    """

    def __init__(
        self, engine: Engine, keys: SigningKeys, access_lifetime: timedelta, refresh_lifetime: timedelta
    ) -> None:
        super().__init__()
        self.passwords = Passwords()
        self._engine = engine
        self._client = PublicClient()
        self._refresh_lifetime = refresh_lifetime
        self.register_token_generator("default", AccessTokens(keys, access_lifetime))
        self.register_grant(PasswordGrant)
        self.register_grant(RefreshGrant)
        self.register_endpoint(Revocation)

    @_again
    def token(self, form: Mapping[str, str], host: str) -> Answer:
        """Status and members of the answer to a token request (RFC 6749, sections 5.1 and 5.2).

        `host` is the address that it came from.
        """
        with transaction(self._engine) as connection:
            answer: Answer = self.create_token_response(TokenRequest(form, connection, host))
        return answer

    @_again
    def revoke(self, form: Mapping[str, str], host: str, bearer: Principal | None) -> Answer:
        """The same for a revocation request (RFC 7009, section 2)."""
        with transaction(self._engine) as connection:
            request = TokenRequest(form, connection, host, bearer)
            answer: Answer = self.create_endpoint_response(Revocation.ENDPOINT_NAME, request)
        return answer

    @_again
    def change_password(self, guesser: Guesser, current: str, new: str) -> bool:
        """Whether `current` was right; then `new` is the password, and all logins of the user are ended.

        WeakPasswordError for a new one that will not do, TooManyGuessesError as for a login.
        """
        self.passwords.require_strong(new, username=guesser.username)
        with transaction(self._engine) as connection:
            user = check_password(connection, self.passwords, guesser, current, to_change=True)
            if user is not None:
                self.passwords.require_another(current, new)
                # Not before: whoever guesses would have a second hash made for each guess.
                new_hash = self.passwords.hash(new, username=user.username)
                users.change(connection, user.username, password_hash=new_hash)
        return user is not None

    @_again
    def sign_out(self, username: str) -> None:
        """End all logins of a user."""
        users.sign_out(self._engine, username)

    def create_oauth2_request(self, request: TokenRequest) -> TokenRequest:
        """It is one already."""
        return request

    def authenticate_client(self, *_: object) -> PublicClient:
        """Any client, with or without a name; the Basic header that some send says nothing."""
        return self._client

    def save_token(self, token: Mapping[str, Any], request: TokenRequest) -> None:
        """Remember the new refresh token; one that replaces another keeps its scope (RFC 6749, section 6).

        A new login ends the oldest of those that are too many.
        """
        old, login = request.refresh_token, request.user
        refresh_tokens.store(
            request.connection,
            token["refresh_token"],
            user_id=login.user.id,
            scopes=old.scopes if old else token["scope"],
            audiences=old.audiences if old else login.audiences,
            lifetime=self._refresh_lifetime,
            family=login.family,
        )
        if old is None:
            refresh_tokens.end_the_oldest(request.connection, login.user.id)

    def send_signal(self, *_: object, **__: object) -> None:
        """Nobody listens."""

    def handle_response(self, status: int, body: dict[str, Any], _: object) -> Answer:
        """The endpoint makes a response of it."""
        return status, body
