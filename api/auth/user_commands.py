"""`python -m api user …`: who may log in, and with what."""

import argparse
import getpass
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError
from sqlalchemy import Engine

from api.auth import users
from api.auth.passwords import Passwords
from common.database import thread_engine
from common.errors import StartError
from common.schema import require_known_schema
from common.settings import DatabaseSettings, explain
from common.tokens import SCOPES

_NO_UTF_8 = "The password is not UTF-8."


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the verbs; each sets `run`, a function of the parsed arguments that gives the exit code."""
    verbs = commands.add_parser("user", help="manage users").add_subparsers(dest="action", required=True)
    add = _verb(verbs, "add", "add a user")
    add.add_argument("--scope", action="append", choices=list(SCOPES), help="repeatable; default: all")
    password = _verb(verbs, "password", "give a user another password, and end their logins")
    for verb in (add, password):
        verb.add_argument(
            "--password-stdin", action="store_true", help="read the password from standard input"
        )
    scopes = _verb(verbs, "scopes", "give a user other scopes, and end their logins if one is taken away")
    scopes.add_argument("--scope", action="append", choices=list(SCOPES), required=True, help="repeatable")
    _verb(verbs, "disable", "let a user log in no more, and end their logins")
    _verb(verbs, "enable", "let a user log in again")
    _verb(verbs, "sign-out", "end all logins of a user")
    verbs.add_parser("list", help="show all users").set_defaults(run=_run)


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=text, description=text)
    verb.add_argument("name", metavar="NAME", help="1 to 64 of a-z 0-9 . _ -")
    verb.set_defaults(run=_run)
    return verb


def _run(chosen: argparse.Namespace) -> int:
    try:
        with _engine() as engine:
            password_hash = _password_hash(chosen)
            require_known_schema(engine)
            lines = _list(engine) if chosen.action == "list" else [_change(engine, chosen, password_hash)]
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except users.UserExistsError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    except users.NoSuchUserError as error:
        raise StartError(str(error)) from None
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _list(engine: Engine) -> list[str]:
    return [
        f"{user.username:<24}  {'disabled' if user.is_disabled else 'enabled':<8}  {' '.join(user.scopes)}"
        for user in users.list_users(engine)
    ]


def _change(engine: Engine, chosen: argparse.Namespace, password_hash: str) -> str:
    """Do it, and say what was done."""
    name: str = chosen.name
    match chosen.action:
        case "add":
            scopes = chosen.scope or list(SCOPES)
            users.add_user(engine, name, password_hash, scopes)
            return f"Added the user {name} with {', '.join(scopes)}."
        case "password":
            users.set_password(engine, name, password_hash)
            return f"The user {name} has another password now, and all their logins are ended."
        case "scopes":
            scopes = list(dict.fromkeys(chosen.scope))
            took_away = users.set_scopes(engine, name, scopes)
            since = "now, and all their logins are ended" if took_away else "from the next login on"
            return f"The user {name} has {', '.join(scopes)} {since}."
        case "disable":
            users.disable(engine, name)
            return f"The user {name} cannot log in any more, and all their logins are ended."
        case "enable":
            users.enable(engine, name)
            return f"The user {name} can log in again."
    users.sign_out(engine, name)
    return f"All logins of the user {name} are ended."


@contextmanager
def _engine() -> Iterator[Engine]:
    try:
        engine = thread_engine(DatabaseSettings())
    except ValidationError as error:
        raise explain(error) from None
    try:
        yield engine
    finally:
        engine.dispose()


def _password_hash(chosen: argparse.Namespace) -> str:
    """Of the password that comes from standard input or, typed twice, from the terminal, where one is due."""
    if "password_stdin" not in chosen:
        return ""
    password = _from_input() if chosen.password_stdin else _from_terminal()
    return Passwords().hash(password, username=chosen.name)


def _from_input() -> str:
    try:
        return sys.stdin.buffer.readline().decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(_NO_UTF_8) from None


def _from_terminal() -> str:
    try:
        with warnings.catch_warnings():
            # Without a terminal the password would be shown as it is typed.
            warnings.simplefilter("error", getpass.GetPassWarning)
            password = getpass.getpass("Password: ")
            again = getpass.getpass("Again: ")
    except (EOFError, getpass.GetPassWarning):
        raise ValueError(
            "No password was typed: type it at a terminal, or send it with --password-stdin."
        ) from None
    except UnicodeDecodeError:
        raise ValueError(_NO_UTF_8) from None
    if again != password:
        raise ValueError("The two passwords differ.")
    return password
