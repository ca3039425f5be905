"""Exit codes: 0 done, 1 cannot be done (a sentence says why), 2 refused as it was asked, 3 exists already.

Ctrl-C ends a command with 130.
"""

import sys

if __name__ == "__main__" and sys.argv[1:2] == ["serve"]:
    # The imports below take a second, in which the process would die of a signal.
    from common import interrupts

    interrupts.end_at_once()

import argparse
import getpass
import json
from pathlib import Path

from pydantic import ValidationError

from api.app import openapi_document
from api.auth.passwords import Passwords
from api.auth.users import UserExistsError, add_user
from api.import_client import import_file
from api.serving import serve
from common.database import thread_engine
from common.errors import BookstoreError, StartError
from common.schema import require_known_schema
from common.settings import DatabaseSettings, explain
from common.tokens import SCOPES


def user_add(name: str, scopes: list[str], *, password_stdin: bool) -> int:
    """Store a user whose password comes from standard input or, typed twice, from the terminal."""
    engine = thread_engine(_database())
    try:
        password_hash = Passwords().hash(_password(from_stdin=password_stdin))
        require_known_schema(engine)
        add_user(engine, name, password_hash, scopes)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except UserExistsError as error:
        print(error, file=sys.stderr)
        return 3
    finally:
        engine.dispose()
    print(f"Added the user {name} with {', '.join(scopes)}.")
    return 0


def _database() -> DatabaseSettings:
    try:
        return DatabaseSettings()
    except ValidationError as error:
        raise explain(error) from None


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise ValueError("The two passwords differ.")
    return password


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m api", description="The REST service of the bookstore.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve until SIGTERM")
    commands.add_parser("openapi", help="print the OpenAPI description")
    user = commands.add_parser("user", help="manage users").add_subparsers(dest="action", required=True)
    add = user.add_parser("add", help="add a user")
    add.add_argument("name", metavar="NAME", help="1 to 64 of a-z 0-9 . _ -")
    add.add_argument("--scope", action="append", choices=list(SCOPES), help="repeatable; default: all")
    add.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    send = commands.add_parser(
        "import",
        help="send a CSV file of books to the running API",
        description="The API is at API_URL (default http://127.0.0.1:8000). The login is BOOKSTORE_TOKEN,"
        " or DEMO_USERNAME and DEMO_PASSWORD.",
    )
    send.add_argument("file", type=Path, metavar="FILE.csv", help="title,author,publication_date")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the result is its exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        if chosen.command == "serve":
            return serve()
        if chosen.command == "openapi":
            print(json.dumps(openapi_document(), indent=2, ensure_ascii=False))
            return 0
        if chosen.command == "import":
            return import_file(chosen.file)
        return user_add(chosen.name, chosen.scope or list(SCOPES), password_stdin=chosen.password_stdin)
    except (StartError, BookstoreError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
