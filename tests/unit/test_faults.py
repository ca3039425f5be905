"""What is told of a fault is said in our own words, in one style."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from api.auth.account_routes import PasswordChange
from api.books.messages import BookPatch, ListParameters
from api.faults import message_of
from common.books import NewBook

MODELS: list[type[BaseModel]] = [NewBook, BookPatch, ListParameters, PasswordChange]
VALUES: list[object] = [
    *(None, True, 0, 1.5, float("nan"), [], ["x"], {}, "", " ", "x", "0", "201", "9" * 5000, "2023-02-30"),
    *("x" * 301, "y" * 1001, "z" * 2501, "\ud800", "\0"),
]
THEIRS = ("should", "Input", "Field", "String", "Extra", "input", "Value error", "{")


def messages_of(model: type[BaseModel], value: object) -> dict[str, str]:
    try:
        model.model_validate(value)
    except ValidationError as error:
        return {"/".join(map(str, fault["loc"])): message_of(fault) for fault in error.errors()}
    return {}


@pytest.mark.parametrize("model", MODELS)
def test_no_message_is_one_of_the_library(model: type[BaseModel]) -> None:
    names = [*model.model_fields, "isbn", "\ud800"]
    # A query has texts alone.
    values = [value for value in VALUES if model is not ListParameters or isinstance(value, str)]
    inputs = [*VALUES, *({name: value} for name in names for value in values)]
    told = {message for value in inputs for message in messages_of(model, value).values()}
    assert len(told) > 4
    for message in told:
        assert message.startswith(("must ", "is "))
        assert not any(word in message for word in THEIRS)


@pytest.mark.parametrize(
    ("model", "value", "messages"),
    [
        (NewBook, {}, dict.fromkeys(["title", "author", "publication_date"], "is missing")),
        (BookPatch, {"title": " "}, {"title": "must not be blank"}),
        (BookPatch, {"title": "x" * 301}, {"title": "must have at most 300 characters"}),
        (BookPatch, {"author": "x" * 1001}, {"author": "must have at most 1000 characters"}),
        (BookPatch, {"author": 1}, {"author": "must be text"}),
        (BookPatch, {"author": "\ud800"}, {"author": "must not contain half of a surrogate pair"}),
        (BookPatch, {"author": "\0"}, {"author": "must not contain the NUL character"}),
        (
            BookPatch,
            {"publication_date": "2023-02-29"},
            {"publication_date": "is not a date of the calendar"},
        ),
        (BookPatch, {"isbn": 1}, {"isbn": "is not a known field"}),
        (BookPatch, [], {"": "must be a JSON object"}),
        (ListParameters, {"limit": "0"}, {"limit": "must be at least 1"}),
        (ListParameters, {"limit": "201"}, {"limit": "must be at most 200"}),
        (ListParameters, {"limit": "9" * 5000}, {"limit": "is too large a number"}),
        (
            ListParameters,
            {"limit": "x"},
            {"limit": "must be a number in plain digits, without sign or leading zero"},
        ),
        (
            ListParameters,
            {"sort": "isbn"},
            {
                "sort": "must be one of 'id', '-id', 'title', '-title', 'author', '-author',"
                " 'publication_date' or '-publication_date'"
            },
        ),
    ],
)
def test_a_fault_is_told(model: type[BaseModel], value: Any, messages: dict[str, str]) -> None:  # noqa: ANN401
    assert messages_of(model, value) == messages
