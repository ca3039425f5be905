"""Where an answer leads: the links of the description (OpenAPI 3.1, section 4.8.20)."""

from typing import Any

Links = dict[str, dict[str, Any]]

_ID = {"path.id": "$response.body#/id"}
_UNCHANGED = {**_ID, "header.if-match": "$response.header.ETag"}
_QUERY = ("limit", "author", "title", "published_from", "published_to", "sort")

READ: Links = {
    "getBook": {"operationId": "getBook", "parameters": _ID, "description": "Read this book again."},
}
CHANGE: Links = {
    "replaceBook": {
        "operationId": "replaceBook",
        "parameters": _UNCHANGED,
        "description": "Replace this book, unless it has changed meanwhile.",
    },
    "changeBook": {
        "operationId": "changeBook",
        "parameters": _UNCHANGED,
        "description": "Change this book, unless it has changed meanwhile.",
    },
    "deleteBook": {
        "operationId": "deleteBook",
        "parameters": _UNCHANGED,
        "description": "Delete this book, unless it has changed meanwhile.",
    },
}
NEXT_PAGE: Links = {
    "nextPage": {
        "operationId": "listBooks",
        # A cursor belongs to the filters and the order that it was made with.
        "parameters": {
            "query.cursor": "$response.body#/next_cursor",
            **{f"query.{name}": f"$request.query.{name}" for name in _QUERY},
        },
        "description": "The next page, unless `next_cursor` is null.",
    }
}
NEWEST: Links = {
    "newestBooks": {
        "operationId": "listBooks",
        "parameters": {"query.sort": "-id"},
        "description": "The books that were stored last.",
    }
}
TAKE_AGAIN: Links = {
    "importBooks": {
        "operationId": "importBooks",
        "requestBody": "$response.body",
        "description": "What was exported as CSV can be imported, here or elsewhere.",
    }
}
