import argparse
import sys

from devstack.servers import SetupError
from devstack.up import up
from devstack.with_database import with_database


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m devstack")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="servers, migrations, demo user and services, until Ctrl-C")
    run = commands.add_parser("with-database", help="run a command with a migrated throw-away database")
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    chosen = parser.parse_args()
    try:
        return up() if chosen.command == "up" else with_database([w for w in chosen.words if w != "--"])
    except SetupError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
