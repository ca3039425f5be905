"""`python -m api keys …`: which keys sign and verify access tokens."""

import argparse
import sys
import time
from datetime import UTC, datetime
from typing import Literal

from api.auth.denials import deny
from api.auth.keys import SigningKey, SigningKeys, add_key, remove_key
from api.settings import KeySettings
from common.database import thread_engine, transaction
from common.denied_tokens import KEPT
from common.schema import require_known_schema
from common.settings import DatabaseSettings

State = Literal["waits", "signs", "verifies", "is done"]


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the verbs; each sets `run`, a function of the parsed arguments that gives the exit code."""
    verbs = commands.add_parser("keys", help="manage the keys that tokens are signed with")
    actions = verbs.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="show all keys").set_defaults(run=_list)
    text = "make another key, which signs in some minutes, and remove those whose tokens are all over"
    actions.add_parser("rotate", help=text, description=text).set_defaults(run=_rotate)
    text = "withdraw a key that is not safe any more: what it signed is refused within seconds"
    remove = actions.add_parser("remove", help=text, description=text)
    remove.add_argument("kid", metavar="KID", help="as `list` shows it")
    remove.set_defaults(run=_remove)


def _states(keys: SigningKeys, lead: float) -> list[tuple[SigningKey, State, float]]:
    """Each key, the oldest first, with what it does and until when, or since when, in seconds."""
    found: list[tuple[SigningKey, State, float]] = []
    now, each, current = time.time(), keys.all(), keys.current()
    for number, key in enumerate(each):
        if key is current:
            found.append((key, "signs", key.published_at))
        elif number > each.index(current):
            found.append((key, "waits", key.published_at + lead))
        else:
            over = each[number + 1].published_at + lead + KEPT.total_seconds()
            found.append((key, "verifies" if now < over else "is done", over))
    return found


def _list(_: argparse.Namespace) -> int:
    settings = KeySettings.from_environment()
    lead = settings.signing_key_lead.total_seconds()
    word = {"waits": "signs from", "signs": "made at", "verifies": "needed until", "is done": "needed until"}
    for key, state, when in _states(
        SigningKeys.open(settings.signing_keys_dir, settings.signing_key_lead), lead
    ):
        sys.stdout.write(f"{key.kid}  {state:<8}  {word[state]} {_time(when)}\n")
    return 0


def _rotate(_: argparse.Namespace) -> int:
    settings = KeySettings.from_environment()
    lead = settings.signing_key_lead.total_seconds()
    states = _states(SigningKeys.open(settings.signing_keys_dir, settings.signing_key_lead), lead)
    for key, state, when in states:
        if state == "waits":
            sys.stderr.write(f"The key {key.kid} is new already; it signs from {_time(when)} on.\n")
            return 3
    for key in [key for key, state, _ in states if state == "is done"]:
        remove_key(settings.signing_keys_dir, key.kid)
        sys.stdout.write(f"Removed the key {key.kid}: all its tokens are over.\n")
    made = add_key(settings.signing_keys_dir)
    beginning = _time(made.published_at + lead)
    sys.stdout.write(f"Made the key {made.kid}. It is published now and signs from {beginning} on.\n")
    return 0


def _remove(chosen: argparse.Namespace) -> int:
    settings = KeySettings.from_environment()
    engine = thread_engine(DatabaseSettings.from_environment())
    try:
        require_known_schema(engine)

        def denied() -> None:
            with transaction(engine) as connection:
                deny(connection, [chosen.kid])

        # A key that is gone cannot be named again, should denying it fail.
        remove_key(settings.signing_keys_dir, chosen.kid, first=denied)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    finally:
        engine.dispose()
    sys.stdout.write(f"Removed the key {chosen.kid}. Who holds a token that it signed must log in again.\n")
    return 0


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
