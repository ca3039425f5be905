"""The linter has nothing to say of the description, and would have. `make openapi-check` fetches it."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api.app import openapi_document
from tests.fixtures.schema import ROOT

Redocly = Callable[[dict[str, Any]], tuple[int, str]]


@pytest.fixture
def redocly(tmp_path: Path) -> Redocly:
    program = shutil.which("redocly", path=str(ROOT / ".local/redocly/node_modules/.bin"))
    if program is None:
        pytest.skip("Redocly CLI is not here: `make openapi-check` fetches it through npm")

    def run(document: dict[str, Any]) -> tuple[int, str]:
        written = tmp_path / "openapi.json"
        written.write_text(json.dumps(document), "utf-8")
        quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
        words = [program, "lint", "--config", str(ROOT / "api/redocly.yaml"), str(written)]
        done = subprocess.run(
            words, env={**os.environ, **quiet}, capture_output=True, text=True, check=False, cwd=tmp_path
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_the_linter_finds_nothing(redocly: Redocly) -> None:
    code, output = redocly(openapi_document())
    assert (code, "Your API description is valid" in output) == (0, True), output


@pytest.mark.parametrize(
    ("path", "key", "value", "rule"),
    [
        ((), "servers", [], "no-empty-servers"),
        (("paths", "/v1/books", "get"), "operationId", "addBook", "operation-operationId-unique"),
        (("paths", "/v1/books", "get"), "security", [{"nobody": []}], "security-defined"),
        (("paths", "/v1/books", "get", "responses", "503"), "headers", {}, "response-contains-header"),
        (("components", "schemas", "RowError"), "required", ["lines"], "no-required-schema-properties"),
    ],
)
def test_the_linter_finds_what_is_planted(
    redocly: Redocly,
    path: tuple[str, ...],
    key: str,
    value: object,
    rule: str,
) -> None:
    document = json.loads(json.dumps(openapi_document()))
    place = document
    for step in path:
        place = place[step]
    place[key] = value
    code, output = redocly(document)
    assert (code, rule in output) == (1, True), output
