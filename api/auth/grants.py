from authlib.oauth2.rfc6749 import InvalidGrantError, InvalidRequestError
from authlib.oauth2.rfc6749.grants import RefreshTokenGrant, ResourceOwnerPasswordCredentialsGrant
from authlib.oauth2.rfc7009 import RevocationEndpoint
from sqlalchemy import Connection

from api.auth import denials, guessing, refresh_tokens
from api.auth.logins import Login, TooManyGuessesError, audiences_of
from api.auth.passwords import Passwords
from api.auth.refresh_tokens import RefreshToken
from api.auth.requests import TokenRequest
from api.auth.users import User, find_user
from common.tokens import Principal


class PasswordGrant(ResourceOwnerPasswordCredentialsGrant):  # type: ignore[misc]  # Authlib has no types
    """RFC 6749, section 4.3. Discouraged today (RFC 9700): for first-party clients such as our own pages."""

    def authenticate_user(self, username: str, password: str) -> Login:
        """The user; InvalidGrantError, after the same time, for wrong name, wrong password, disabled user.

        InvalidTargetError for a service that there is not, and TooManyGuessesError, before any password is
        looked at. The user's row is locked against changes until the answer is: a login that is under way
        while all are ended ends with them.
        """
        audiences = audiences_of(self.request.form.get("resource"))
        guesser = guessing.Guesser.of(username, self.request.host)
        user = check_password(self.request.connection, self.server.passwords, guesser, password)
        if user is None:
            raise InvalidGrantError("The user name or the password is not right.")
        return Login(user, refresh_tokens.new_family(), audiences, user.scopes)


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

    def authenticate_user(self, token: RefreshToken) -> Login:
        """Whom it was given to, with those of its scopes that they have still."""
        user = find_user(self.request.connection, user_id=token.user_id)
        if user is None or user.is_disabled:
            raise InvalidGrantError("The refresh token is not valid any more; log in again.")
        audiences = audiences_of(self.request.form.get("resource"), token.audiences)
        granted = token.scopes.split()
        return Login(user, token.family, audiences, tuple(name for name in user.scopes if name in granted))

    def revoke_old_credential(self, token: RefreshToken) -> None:
        """In the transaction that stores its successor."""
        refresh_tokens.revoke(self.request.connection, token)


class Revocation(RevocationEndpoint):  # type: ignore[misc]  # Authlib has no types
    """RFC 7009 for tokens of both kinds."""

    def authenticate_token(self, request: TokenRequest, _: object) -> RefreshToken | Principal | None:
        """The token, if it is one of ours; an unknown one is no error (section 2.2), a hint is not needed."""
        if not request.form.get("token"):
            raise InvalidRequestError("The field token is missing.")
        return request.bearer or refresh_tokens.find(request.connection, request.form["token"])

    def revoke_token(self, token: RefreshToken | Principal, request: TokenRequest) -> None:
        """With a refresh token goes all that came from its login (section 2.1); an access token alone."""
        if isinstance(token, Principal):
            denials.deny_token(request.connection, token)
        else:
            refresh_tokens.revoke_family(request.connection, token)


def check_password(
    connection: Connection,
    passwords: Passwords,
    guesser: guessing.Guesser,
    password: str,
    *,
    to_change: bool = False,
) -> User | None:
    """The user, locked against changes, or for one; None, after the same time, for whatever is not right.

    TooManyGuessesError when too many passwords were wrong before this one, which is then not looked at.
    """
    user = find_user(connection, username=guesser.username, to_change=to_change)
    if wait := guessing.seconds_to_wait(connection, guesser, user.id if user else None):
        raise TooManyGuessesError(wait)
    matches = passwords.matches(user.password_hash if user else None, password)
    if user is None or not matches or user.is_disabled:
        guessing.owe(connection, guesser)
        return None
    guessing.forgive(connection, guesser, user.id)
    return user
