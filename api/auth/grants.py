from authlib.oauth2.rfc6749 import InvalidGrantError, InvalidRequestError
from authlib.oauth2.rfc6749.grants import RefreshTokenGrant, ResourceOwnerPasswordCredentialsGrant
from authlib.oauth2.rfc7009 import RevocationEndpoint

from api.auth import refresh_tokens
from api.auth.refresh_tokens import RefreshToken
from api.auth.requests import TokenRequest
from api.auth.users import User, find_user


class PasswordGrant(ResourceOwnerPasswordCredentialsGrant):  # type: ignore[misc]  # Authlib has no types
    """RFC 6749, section 4.3. Discouraged today (RFC 9700): for first-party clients such as our own pages."""

    def authenticate_user(self, username: str, password: str) -> User:
        """The user; InvalidGrantError, after the same time, for wrong name, wrong password, disabled user."""
        user = find_user(self.request.connection, username=username)
        matches = self.server.passwords.matches(user and user.password_hash, password)
        if user is None or not matches or user.is_disabled:
            raise InvalidGrantError("The user name or the password is not right.")
        return user


class RefreshGrant(RefreshTokenGrant):  # type: ignore[misc]  # Authlib has no types
    """RFC 6749, section 6, with rotation: a token is replaced at its first use."""

    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, secret: str) -> RefreshToken:
        """The token; one that was used before has been stolen, from here or by here: its family ends."""
        token = refresh_tokens.find(self.request.connection, secret)
        if token is not None and token.is_revoked:
            refresh_tokens.revoke_family(self.request.connection, token)
        if token is None or token.is_revoked or token.is_expired:
            raise InvalidGrantError("The refresh token is not valid any more; log in again.")
        return token

    def authenticate_user(self, token: RefreshToken) -> User | None:
        """Whom it was given to, with the scopes that they have now."""
        user = find_user(self.request.connection, user_id=token.user_id)
        if user is not None and user.is_disabled:
            raise InvalidGrantError("The refresh token is not valid any more; log in again.")
        return user

    def revoke_old_credential(self, token: RefreshToken) -> None:
        """In the transaction that stores its successor."""
        refresh_tokens.revoke(self.request.connection, token)


class Revocation(RevocationEndpoint):  # type: ignore[misc]  # Authlib has no types
    """RFC 7009 for refresh tokens. An access token lives on for its minutes and is answered as unknown."""

    def authenticate_token(self, request: TokenRequest, _: object) -> RefreshToken | None:
        """The token, if it is one of ours; an unknown one is no error (section 2.2), a hint is not needed."""
        if not request.form.get("token"):
            raise InvalidRequestError("The field token is missing.")
        return refresh_tokens.find(request.connection, request.form["token"])

    def revoke_token(self, token: RefreshToken, request: TokenRequest) -> None:
        """With it goes all that came from the same login (section 2.1)."""
        refresh_tokens.revoke_family(request.connection, token)
