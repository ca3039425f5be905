"""What can be known of the images without Docker: who runs, what is in them, how health is asked."""

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.container_files import (
    HEALTH_PORT,
    JOBS,
    PACKAGES,
    READ_BY,
    ROOT,
    SERVICES,
    image,
    instructions,
    last,
)


@contextmanager
def answering(status: int) -> Iterator[tuple[int, list[str]]]:
    """A server that gives everybody this answer; its port and the paths that it was asked for."""
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("package", PACKAGES.values())
def test_image_ends_with_a_user_who_is_not_root_and_commands_in_exec_form(package: str) -> None:
    assert int(last(package, "USER").split(":")[0]) > 0
    assert json.loads(last(package, "ENTRYPOINT")) == ["python", "-m", package]
    assert json.loads(last(package, "CMD")) == ["serve"]


def test_jobs_do_not_run_as_root() -> None:
    users = [rest for word, rest in image("api", "jobs") if word == "USER"]
    assert int(users[-1].split(":")[0]) > 0
    assert {SERVICES[job]["build"]["target"] for job in JOBS} == {"jobs"}
    assert not any("user" in SERVICES[job] for job in JOBS)


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
@pytest.mark.parametrize("service", PACKAGES)
def test_health_check_is_what_readyz_says(service: str, status: int, *, healthy: bool) -> None:
    command = json.loads(last(PACKAGES[service], "HEALTHCHECK").partition(" CMD ")[2])
    assert command[0] == "python"
    with answering(status) as (port, asked):
        done = subprocess.run(
            [sys.executable, *command[1:]],
            env={HEALTH_PORT[service]: str(port)},
            capture_output=True,
            check=False,
        )
    assert (done.returncode == 0, asked) == (healthy, ["/readyz"])
    assert f"'{READ_BY[service][0].model_fields[HEALTH_PORT[service].lower()].default}'" in command[2]


@pytest.mark.parametrize("package", PACKAGES.values())
def test_packages_are_installed_by_hash_from_an_index_that_no_file_names(package: str) -> None:
    text = (ROOT / package / "Dockerfile").read_text()
    assert "--require-hashes" in text
    assert not re.search(r"--(extra-)?index-url|--find-links|PIP_\w*INDEX|https://", text)
    assert ("ARG", "PYTHON_IMAGE=python:3.11-slim-bookworm") in instructions(package)
    assert image(package)[0] == ("FROM", "${PYTHON_IMAGE}")


def test_all_images_share_the_layers_of_the_packages() -> None:
    stages = {tuple(instructions(package)[:4]) for package in PACKAGES.values()}
    assert len(stages) == 1
    assert [word for word, _ in stages.pop()] == ["ARG", "FROM", "COPY", "RUN"]


@pytest.mark.parametrize(
    ("package", "target", "command"),
    [
        ("api", None, ["-m", "api", "--help"]),
        ("outbox_relay", None, ["-m", "outbox_relay", "--help"]),
        ("grpc_reader", None, ["-m", "grpc_reader", "--help"]),
        ("api", "jobs", ["-m", "api", "user", "add", "--help"]),
        ("api", "jobs", ["-m", "alembic", "-c", "setup.cfg", "heads"]),
        ("api", "jobs", ["-c", "import api.tables, grpc_reader.tables, outbox_relay.tables"]),
        ("api", "jobs", ["-c", "import containers.make_secrets"]),
    ],
)
def test_what_is_copied_into_an_image_is_enough(
    package: str, target: str | None, command: list[str], tmp_path: Path
) -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for word, rest in image(package, target):
        if word == "COPY" and not rest.startswith("--from"):
            source, destination = rest.split()
            assert source in allowed, ".dockerignore keeps it out"
            path = ROOT / source
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, tmp_path / destination)
    subprocess.run([sys.executable, *command], cwd=tmp_path, env={}, capture_output=True, check=True)
