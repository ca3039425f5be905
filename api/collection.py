"""The calls of the description as an `.http` file, which editors send one by one.

Made of the examples and the links alone: the id in a path is that of the book that is added first.
"""

import json
from typing import Any
from urllib.parse import quote

Json = dict[str, Any]
_FIRST, _LAST = ("logIn", "addBook"), ("deleteBook", "signOut", "revokeToken")
# Whoever sends all calls to see what they do wants to keep their password.
LEFT_OUT = frozenset({"changePassword"})
_BEGINNING = """\
# Made by `python -m api collection`; do not edit. Send the requests in this order: later ones use the
# answers of earlier ones. The comment in each says what is answered when all is well.
# Write the password percent-encoded.
@url = http://127.0.0.1:8000
@username = demo
@password = change me
"""
# What stands in the examples, and what is sent in its place.
_IN_FORMS = {
    "username": "{{username}}",
    "password": "{{password}}",
    "token": "{{logIn.response.body.$.refresh_token}}",
}


def collection(document: dict[str, Any]) -> str:
    """All calls of an OpenAPI document but those left out, each once, in an order in which they work."""
    calls = {
        operation["operationId"]: (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    middle = [name for name in calls if name not in {*_FIRST, *_LAST, *LEFT_OUT}]
    _, _, added = calls["addBook"]
    parts = [_request(document, *calls[name], added=added) for name in (*_FIRST, *middle, *_LAST)]
    return "\n".join([_BEGINNING, *parts]).rstrip("\n")


def _request(document: Json, method: str, path: str, operation: Json, *, added: Json) -> str:
    [success] = [status for status in operation["responses"] if status.startswith("2")]
    given = _from_the_added_book(added, operation["operationId"])
    target = path.replace("{id}", given.get("id", "1"))
    lines = [f"### {operation['summary']}", f"# @name {operation['operationId']}", f"# {success}"]
    lines.append(f"{method} {{{{url}}}}{target}")
    if operation["security"]:
        lines.append("Authorization: Bearer {{logIn.response.body.$.access_token}}")
    media_type, body = _body(document, operation)
    if media_type:
        lines.append(f"Content-Type: {media_type}")
    return "\n".join([*lines, "", body, ""] if body else [*lines, ""])


def _from_the_added_book(added: dict[str, Any], operation_id: str) -> dict[str, str]:
    """The parameters that a link of the added book fills, as the editors write them."""
    links = added["responses"]["201"]["links"]
    parameters = links.get(operation_id, {}).get("parameters", {})
    return {
        name.partition(".")[2]: value.replace("$response.body#/", "{{addBook.response.body.$.") + "}}"
        for name, value in parameters.items()
        if value.startswith("$response.body")
    }


def _body(document: dict[str, Any], operation: dict[str, Any]) -> tuple[str, str]:
    content = operation.get("requestBody", {}).get("content", {})
    if not content:
        return "", ""
    media_type, described = next(iter(content.items()))
    example = _example(document, described)
    if media_type == "application/x-www-form-urlencoded":
        fields = {name: _IN_FORMS.get(name) or quote(value) for name, value in example.items()}
        return media_type, "&".join(f"{name}={value}" for name, value in fields.items())
    if isinstance(example, str):
        return media_type, example.rstrip("\n")
    return media_type, json.dumps(example, indent=2, ensure_ascii=False)


def _example(document: dict[str, Any], described: dict[str, Any]) -> Any:  # noqa: ANN401  any JSON value
    if "example" in described:
        return described["example"]
    if "examples" in described:
        return next(iter(described["examples"].values()))["value"]
    name = described["schema"]["$ref"].rpartition("/")[2]
    return document["components"]["schemas"][name]["examples"][0]
