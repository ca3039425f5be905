"""A login: somebody, for some services, under a name that all of its tokens carry."""

from dataclasses import dataclass

from authlib.oauth2 import OAuth2Error

from api.auth.users import User
from common.tokens import AUDIENCES


class InvalidTargetError(OAuth2Error):  # type: ignore[misc]  # Authlib has no types
    """The `resource` is none of ours (RFC 8707, section 2)."""

    error = "invalid_target"


class TooManyGuessesError(OAuth2Error):  # type: ignore[misc]  # likewise
    """Too many wrong passwords; `seconds` until the next may be tried."""

    error = "temporarily_unavailable"
    status_code = 429

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Too many wrong passwords; try again in {seconds} s.")
        self.seconds = seconds

    def get_body(self) -> list[tuple[str, object]]:
        """The members of RFC 6749, section 5.2, and the seconds for the header."""
        return [*super().get_body(), ("retry_after", self.seconds)]


@dataclass(frozen=True)
class Login:
    """What Authlib calls the user of a request. `family` is the claim `sid`, `audiences` are `aud`.

    `scopes` are all that its tokens may carry.
    """

    user: User
    family: str
    audiences: tuple[str, ...]
    scopes: tuple[str, ...]

    def get_user_id(self) -> str:
        """What Authlib writes into `sub`."""
        return self.user.username


def audiences_of(resource: str | None, granted: tuple[str, ...] = AUDIENCES) -> tuple[str, ...]:
    """The services that a token shall be for: the one that was asked for, or all that are granted."""
    if not resource:
        return granted
    if resource not in granted:
        raise InvalidTargetError(f"The resource is none of {', '.join(granted)}.")
    return (resource,)
