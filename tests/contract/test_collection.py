"""docs/bookstore.http is made of the description, and each of its requests is answered as it says."""

import re
import subprocess
import sys

import httpx

from api.app import openapi_document
from api.collection import LEFT_OUT, collection
from tests.contract.test_openapi import OPERATIONS
from tests.fixtures.api import PASSWORD, Api
from tests.fixtures.schema import ROOT

FILE = ROOT / "docs/bookstore.http"
VALUE = re.compile(r"\{\{(\w+)(?:\.response\.body\.\$\.(\w+))?\}\}")


def test_the_committed_collection_is_what_the_command_gives() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "api", "collection"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert made.stdout == FILE.read_text("utf-8"), "run `python -m api collection >docs/bookstore.http`"


def test_each_request_of_the_collection_is_answered_as_it_says(api: Api) -> None:
    values = {"url": api.url, "username": "writer", "password": PASSWORD.replace(" ", "+")}
    answers: dict[str, httpx.Response] = {}

    def filled(found: re.Match[str]) -> str:
        name, member = found.groups()
        return str(answers[name].json()[member] if member else values[name])

    seen = {}
    with api.client() as client:
        for part in collection(openapi_document()).split("### ")[1:]:
            head, _, body = VALUE.sub(filled, part).partition("\n\n")
            _, name, status, line, *headers = head.strip().split("\n")
            method, url = line.split()
            fields = dict(header.split(": ", 1) for header in headers)
            answer = client.request(method, url, headers=fields, content=body.strip().encode())
            answers[name.removeprefix("# @name ")] = answer
            seen[name] = (status, f"# {answer.status_code}", answer.text[:200])
    assert all(said == was for said, was, _ in seen.values()), seen
    assert set(answers) | LEFT_OUT == {operation["operationId"] for operation in OPERATIONS.values()}
