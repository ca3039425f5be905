"""What a service does beside its answers ends by a fault of ours alone; then the service ends, too."""

import sys
from pathlib import Path

import pytest

from devstack.process import Process
from devstack.stack import Stack
from tests.fixtures.system import system_environment
from tests.waiting import eventually

# After its first reading the task waits for no number of seconds.
FAILING = """
import sys
from {kind}.__main__ import main
from common import denied_tokens
denied_tokens._POLL_SECONDS = "no number"
sys.exit(main(["serve"]))
"""


@pytest.mark.parametrize("kind", ["api", "grpc_reader"])
def test_a_service_that_does_not_learn_any_more_who_is_denied_ends_with_an_error(
    stack: Stack, database_url: str, tmp_path: Path, kind: str
) -> None:
    """Or it would let in for ever who was signed out."""
    log = tmp_path / "log"
    environment = system_environment(stack, database_url, tmp_path)
    process = Process(kind, [sys.executable, "-c", FAILING.format(kind=kind)], environment, log)
    process.start()
    try:
        eventually(lambda: not process.running, because=f"{kind} ends")
        assert process.exit_code() == 1, log.read_text()
        assert "TypeError" in log.read_text()
        assert "serv" in log.read_text()
    finally:
        process.stop()
