"""The user whom `make up` adds and shows. An empty password is one that is not known."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable

from devstack.folders import write_private
from devstack.servers import await_answer
from devstack.stack import STATE

USERNAME = "demo"
_FILE = STATE / "demo.env"


def logs_in(api_port: int, password: str, heed: Callable[[], None]) -> bool:
    """Whether it is the user's password, as the API says, which stores nothing for it.

    SetupError when the API does not say; what `heed` raises goes through.
    """
    answers: list[bool] = []
    await_answer(
        "login",
        lambda: answers.append(_is_right(api_port, password)),
        heed=heed,
        advice="; what the API said stands above, behind `api    |`",
    )
    return answers[0]


def _is_right(api_port: int, password: str) -> bool:
    # No token is made, for nobody has that scope; but this is said only to whom the password is right.
    form = {"grant_type": "password", "username": USERNAME, "password": password, "scope": "nothing"}
    url = f"http://127.0.0.1:{api_port}/v1/auth/token"
    try:
        urllib.request.urlopen(url, urllib.parse.urlencode(form).encode(), timeout=10).close()
    except urllib.error.HTTPError as error:
        refusal = json.load(error).get("error")
        if refusal not in {"invalid_grant", "invalid_scope"}:
            raise
        return bool(refusal == "invalid_scope")
    return True


def write_login(password: str) -> None:
    """Put the login into .local/demo.env; no file is there when the password is not known."""
    if password:
        write_private(_FILE, f"DEMO_USERNAME={USERNAME}\nDEMO_PASSWORD={password}\n")
    else:
        _FILE.unlink(missing_ok=True)


def shown(password: str) -> str:
    """What the banner says of the login."""
    if password:
        return f"{USERNAME}   {password}   (also in .local/demo.env)"
    return (
        f"The user {USERNAME} of this database has another password than this checkout's:\n"
        "              log in with that one, or add a user of your own with\n"
        "              (set -a; . .local/up.env; .local/venv/bin/python -m api user add NAME)"
    )
