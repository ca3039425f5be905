"""Exit codes: 0 done, 1 cannot be done (a sentence says why), 2 refused as it was asked, 3 exists already.

Ctrl-C ends a command with 130.
"""

import sys

if __name__ == "__main__" and sys.argv[1:2] == ["serve"]:
    # The imports below take a second, in which the process would die of a signal.
    from common import interrupts

    interrupts.end_at_once()

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from api.app import openapi_document
from api.auth import key_commands, user_commands
from api.collection import collection
from api.import_client import FORMATS, import_file
from api.serving import serve
from common.errors import BookstoreError, StartError

_PRINTED: dict[str, Callable[[dict[str, Any]], str]] = {
    "openapi": partial(json.dumps, indent=2, ensure_ascii=False),
    "collection": collection,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m api", description="The REST service of the bookstore.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve until SIGTERM")
    commands.add_parser("openapi", help="print the OpenAPI description")
    commands.add_parser("collection", help="print all calls as an .http file")
    user_commands.add_parsers(commands)
    key_commands.add_parsers(commands)
    send = commands.add_parser(
        "import",
        help="send a file of books to the running API",
        description="The API is at API_URL (default http://127.0.0.1:8000). The login is BOOKSTORE_TOKEN,"
        " or DEMO_USERNAME and DEMO_PASSWORD. What ends early is sent again and goes on.",
    )
    send.add_argument("file", type=Path, metavar="FILE", help="CSV (title,author,publication_date) or NDJSON")
    send.add_argument("--format", choices=list(FORMATS), help="otherwise by the end of the file's name")
    send.add_argument("--idempotency-key", metavar="KEY", help="go on with an import that ended early")
    send.add_argument("--retries", type=int, choices=range(100), default=5, metavar="N", help="by default 5")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the result is its exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        if chosen.command == "serve":
            return serve()
        if chosen.command in _PRINTED:
            print(_PRINTED[chosen.command](openapi_document()))
            return 0
        if chosen.command == "import":
            return import_file(chosen.file, chosen.format, chosen.idempotency_key, chosen.retries)
        done: int = chosen.run(chosen)
    except (StartError, BookstoreError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return done


if __name__ == "__main__":
    sys.exit(main())
